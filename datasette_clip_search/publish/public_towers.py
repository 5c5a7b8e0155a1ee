"""The towers as they are published: without what their manifests tell of how they were made."""

import json

# What reading a tower takes, and how well it passed its tests. Others may be numbers.
_PUBLIC = frozenset(
    [
        "format",
        "needs",
        "sections",
        "sha256",
        "fingerprint",
        "precision",
        "tokenizer",
        "preprocess",
        "verified",
    ]
)
# How many pictures there were to check it with, at home.
_WITHHELD = "pictures"


def published_manifest(manifest: object) -> str:
    """Returns a tower's manifest without the dates, reasons and counts of its owner's.

    One that can't be read becomes one that says nothing, and is damaged as before.
    """
    try:
        facts = json.loads(manifest) if isinstance(manifest, str) else None
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        return "{}"
    revealed = {
        name: value
        for name, value in facts.items()
        if name in _PUBLIC or isinstance(value, int | float)
    }
    if isinstance(verified := revealed.get("verified"), dict):
        verified.pop(_WITHHELD, None)
    return json.dumps(revealed)
