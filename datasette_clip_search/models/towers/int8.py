"""An int8 image tower from a database: later runs embed with it, without torch."""

import hashlib
import json
import sqlite3
from collections.abc import Mapping

import numpy as np

from ...database.model import Model
from .image import StoredPictureEncoder, image_input
from .int8_ranges import VERSION, Ranges
from .int8_session import Int8Session
from .stored import (
    INT8,
    StoredTower,
    TowerUnusable,
    loading_error,
    parse_manifest,
    read_manifest,
    read_tower,
)


class Int8Tower(StoredPictureEncoder):
    """An int8 image tower from a database, for any number of threads at once."""

    label = "The int8 model"
    kind = INT8

    def __init__(self, stored: StoredTower):
        """Load a tower.

        Raises TowerUnusable for one that does not load.
        """
        try:
            super().__init__(stored)
            self.precision = "int8"
            of_noise = np.frombuffer(stored.sections["of_noise"], "<f4")
            session = Int8Session(
                stored.sections["onnx"],
                of_noise.reshape(-1, self.dimension),
                image_input(self.preprocess),
            )
            self._run = session.encode
        except Exception as error:
            # ONNX Runtime has many exceptions for broken data.
            raise loading_error(INT8, error) from error


def find_int8_tower(
    connection: sqlite3.Connection, model: Model, ranges: Ranges | None
) -> Int8Tower | None:
    """Return the int8 tower of a model that the database holds.

    None means that one has to be made: there is none, it is damaged, or other ranges or another
    release made it.
    """
    manifest = read_manifest(connection, model, INT8)
    if manifest is None or ranges is None:
        return None
    try:
        facts = parse_manifest(manifest, model, INT8)
        if not calibration_facts(ranges).items() <= facts.items():
            return None
        return Int8Tower(read_tower(connection, model, manifest, INT8))
    except TowerUnusable:
        return None


def calibration_facts(ranges: Ranges) -> Mapping[str, object]:
    """Return the part of a manifest that identifies a calibration."""
    digest = hashlib.sha256(json.dumps(ranges, sort_keys=True).encode()).hexdigest()
    return {"calibration": digest, "version": VERSION}
