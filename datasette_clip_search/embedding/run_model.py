"""The model of a run: its checkpoint, and its row if the database has one."""

import os
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..common.config import CONFIG
from ..database.model import Model
from ..models.checkpoint import Checkpoint, compute_fingerprint, resolve
from ..models.towers.stored import IMAGE, read_manifest
from ..pictures.sources.source import stored_path


@dataclass(frozen=True)
class RunModel:
    """The model of a run, as far as it is known before it is loaded.

    `recorded` is its row. `is_from_database` is true where the database names the weights: a
    stranger may have written it. Where `is_gone`, the weights are no longer where they were, and
    only an image tower of the database can embed. `fingerprint` is that of weights that were on
    disk before any download.
    """

    checkpoint: Checkpoint
    recorded: Model | None = None
    is_from_database: bool = False
    is_gone: bool = False
    fingerprint: str | None = None

    def stored_pretrained(self, folder: Path) -> str:
        """Return the pretraining as a database in a folder stores it: a tag or a path."""
        pretrained = self.checkpoint.pretrained
        if not self.checkpoint.is_local:
            return pretrained
        stored = stored_path(pretrained, str(folder))
        # The prefix tells a relative path from a tag.
        return stored if os.path.isabs(stored) else f"./{stored}"


def resolve_run_model(
    connection: sqlite3.Connection,
    known: Sequence[Model],
    folder: Path,
    name: str | None,
    pretrained: str | None,
) -> RunModel:
    """Return the model that a run should use, without loading or fetching it.

    `known` are the models of the database, its default first, and `folder` is the database's.
    Without `pretrained`, a model of the database keeps its weights. Without a `name` either, the
    model is the database's default, and CONFIG's for a new database.

    Raises CommandError for a model or weights that do not exist.
    """
    recorded = None
    if pretrained is None:
        recorded = next((model for model in known if name in (None, model.name)), None)
    if recorded:
        beside = folder / recorded.pretrained
        name, pretrained = recorded.name, recorded.pretrained or None
        if pretrained and beside.exists():
            pretrained = str(beside)
    elif name is None and pretrained is None:
        name, pretrained = CONFIG.model, CONFIG.pretrained
    elif pretrained is None and name == CONFIG.model:
        pretrained = CONFIG.pretrained
    is_gone = bool(recorded and not _is_tag(recorded) and not os.path.exists(pretrained or ""))
    if recorded and is_gone and read_manifest(connection, recorded, IMAGE):
        gone = os.path.normpath(folder / recorded.pretrained)
        return RunModel(Checkpoint(recorded.name, gone), recorded, True, is_gone)
    checkpoint = resolve(name, pretrained)
    fingerprint = compute_fingerprint(checkpoint) if known and checkpoint.weights else None
    row = _find_row(known, checkpoint, fingerprint)
    return RunModel(checkpoint, row, recorded is not None, is_gone, fingerprint)


def _find_row(
    known: Sequence[Model], checkpoint: Checkpoint, fingerprint: str | None
) -> Model | None:
    for model in known:
        if fingerprint:
            if model.fingerprint == fingerprint:
                return model
        elif (model.name, model.pretrained) == (checkpoint.name, checkpoint.pretrained):
            return model
    return None


def _is_tag(model: Model) -> bool:
    return not model.pretrained or re.fullmatch(r"[^/\\]+", model.pretrained) is not None
