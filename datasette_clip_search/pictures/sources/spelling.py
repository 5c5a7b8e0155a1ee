"""Match names in any Unicode normalization form: é can be one character or two."""

import os
import unicodedata


def composed(text: str) -> str:
    """Return a name in NFC, the form in which names are compared."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def as_on_disk(path: str) -> str:
    """Return a path in the spelling that exists on disk, or unchanged if none does.

    Spellings differ in Unicode form only, not in case. The given one comes first.
    """
    if path.isascii() or os.path.lexists(path):
        return path
    made = "/" if path.startswith("/") else ""
    for part in path.split("/"):
        if not part:
            continue
        if not part.isascii() and not os.path.lexists(made + part):
            other = _other_spelling(made, part)
            if other is None:
                return path
            part = other
        made += f"{part}/"
    return made if path.endswith("/") else made[:-1]


def _other_spelling(folder: str, name: str) -> str | None:
    wanted = composed(name)
    try:
        return min(each for each in os.listdir(folder or ".") if composed(each) == wanted)
    except (OSError, ValueError):
        return None
