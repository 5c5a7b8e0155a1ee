"""Turn the facts of pictures and models into public ones.

Only columns and tables that are named here are published. A new one stays private until it is added
below.
"""

import hashlib
import hmac
import os
import re
import sqlite3
from collections.abc import Collection, Set

from ..database.connection import fetch, quote
from ..database.private_facts import NAMES
from ..database.recognition import select_facts
from ..database.schema import EMBEDDINGS, MODELS, THUMBNAILS, TOWERS
from .private_paths import EVERYTHING, PublicPaths, is_absolute, table_of

# The column with the table that `key` is a key of.
KEY_TABLE = "key_table"
# The public columns of each of our tables; the pictures' table can have any name. `calibration` is
# derived from the pictures that calibrated int8, and stays private.
IMAGE_COLUMNS = frozenset(
    [
        "id",
        "path",
        "content_hash",
        "size",
        "mtime",
        "width",
        "height",
        "format",
        "taken",
        "latitude",
        "longitude",
        "camera",
        "key",
    ]
) | {KEY_TABLE}
COLUMNS = {
    MODELS: frozenset(
        [
            "id",
            "name",
            "pretrained",
            "dimension",
            "fingerprint",
            "preprocess",
            "is_default",
            "revision",
        ]
    ),
    EMBEDDINGS: frozenset(("model_id", "image_id", "embedding", "precision", "made_from")),
    THUMBNAILS: frozenset(("image_id", "format", "data", "made_from")),
    TOWERS: frozenset(("model_id", "tower", "part", "precision", "data")),
}
# The first bytes of picture files: JPEG, PNG, GIF, WebP, TIFF and RAW, BMP, HEIC and AVIF, JPEG XL
# and 2000, Photoshop. Any other blob begins like this once in billions.
_FILE = re.compile(
    rb"\xff\xd8\xff[\xc0-\xfe]|\x89PNG|GIF8|RIFF.{4}WEBP|II[*+U]\0|MM\0[*+]|IIRO|BM.{4}\0\0\0\0"
    rb"|.{4}ftyp|.{4}(JXL |jP  )|8BPS|FUJIFILM",
    re.DOTALL,
)


class PublicFacts:
    """Turns the facts of pictures and models into public ones.

    `revealed` and `withheld` are the names of the facts that were published and that were not. A
    name can be in both, for different pictures.
    """

    def __init__(self, kept: Collection[str], paths: PublicPaths):
        # The file's time is usually when the picture was taken.
        kept = set(kept) - (set() if "taken" in kept else {"mtime"})
        self._kept = kept
        self._paths = paths
        self._secret = os.urandom(32)
        # The number of picture files in each of the user's columns.
        self.originals: dict[str, int] = {}
        self._revealed = kept - EVERYTHING
        self._withheld = set(NAMES) - kept - EVERYTHING

    @property
    def revealed(self) -> Set[str]:
        return self._revealed | self._paths.revealed

    @property
    def withheld(self) -> Set[str]:
        return self._withheld | self._paths.withheld

    @property
    def reveals_contents(self) -> bool:
        """Whether anyone with a copy of a picture can find out that it is published."""
        return "content_hash" in self._kept

    def picture(self, facts: dict[str, object]) -> dict[str, object]:
        """Return the public form of a row of the pictures' table, given by its columns."""
        changed: dict[str, object] = {
            "path": self._paths.public_path(facts["id"], facts["path"], facts.get("format"))
        }
        if facts.get("key") is not None:
            changed |= self._key(facts)
        if "gps" not in self._kept:
            changed |= {"latitude": None, "longitude": None, "taken": _local(facts.get("taken"))}
        if "content_hash" not in self._kept:
            changed["content_hash"] = self._pseudonym(facts.get("content_hash"))
        absent: dict[str, object] = {"taken": None, "camera": None, "size": 0, "mtime": 0}
        changed |= {name: value for name, value in absent.items() if name not in self._kept}
        return facts | {name: value for name, value in changed.items() if name in facts}

    def user_value(self, table: str, column: str, value: object, absent: object = None) -> object:
        """Return a value of the user's own table or column; `absent` replaces a picture file."""
        if not isinstance(value, bytes) or not _FILE.match(value):
            return value
        place = f"{table}.{column}"
        self.originals[place] = self.originals.get(place, 0) + 1
        return value if "original" in self._kept else absent

    def model(self, facts: dict[str, object]) -> dict[str, object]:
        """Return the public form of a row of the models' table, which has no path."""
        name = str(facts["name"])
        changed = {
            "name": self._paths.shortened(name) if is_absolute(name) else name,
            "pretrained": public_pretrained(str(facts["pretrained"])),
        }
        if "model" not in self._kept:
            changed = {"name": f"model-{facts['id']}", "pretrained": "./model"}
        return facts | changed

    def _key(self, facts: dict[str, object]) -> dict[str, object]:
        key, table = facts["key"], facts.get(KEY_TABLE) or table_of(facts["path"])
        if not self._paths.keeps_key(table):
            self._withheld.add("key")
            return {"key": None, KEY_TABLE: None}
        self._revealed.add("key")
        return {
            "key": self._paths.shortened(key) if isinstance(key, str) else key,
            KEY_TABLE: table if self._paths.keeps_table(table) else None,
        }

    def _pseudonym(self, content_hash: object) -> str:
        """Return the same text for the same content, without revealing the content."""
        return hmac.new(self._secret, str(content_hash).encode(), hashlib.sha256).hexdigest()


def public_pretrained(pretrained: str) -> str:
    """Return a model's `pretrained` without the name of any folder or file of the owner's.

    It leads to weights beside the published database, and never looks like a tag.
    """
    if not re.search(r"[/\\]|^[.~]|\.(safetensors|bin|pt|pth)$", pretrained):
        return pretrained
    suffix = re.search(r"\.(safetensors|bin|pt|pth)$", pretrained)
    return f"./model{suffix[0] if suffix else ''}"


def _local(taken: object) -> object:
    """Return a time without its UTC offset."""
    return re.sub(r"(Z|[+-]\d\d:?\d\d)$", "", taken) if isinstance(taken, str) else taken


def count_facts(connection: sqlite3.Connection, table: str, chosen: str) -> dict[str, int]:
    """Return how many of the chosen pictures have each of the optional facts."""
    conditions = {
        "gps": "latitude is not null and longitude is not null",
        "mtime": "mtime != 0",
        "key": "key is not null",
        "taken": "taken is not null",
        "camera": "camera is not null",
    }
    names = ("latitude", "longitude", "mtime", "key", "taken", "camera")
    columns = select_facts(connection, table, *names)
    sums = ", ".join(f"ifnull(sum({condition}), 0)" for condition in conditions.values())
    sql = f"""select {sums} from (select id, {columns} from main.{quote(table)})
        where id in (select id from {chosen})"""
    return dict(zip(conditions, fetch(connection, sql).fetchone(), strict=True))
