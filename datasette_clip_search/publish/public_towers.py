"""Remove from the towers' manifests how and when they were made."""

import json

# The keys needed to read a tower, and its test results. Other keys are public if they are numbers.
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
# The number of the owner's pictures that it was checked with.
_WITHHELD = "pictures"


def public_manifest(manifest: object) -> str:
    """Return a tower's manifest without dates, reasons and counts of the owner's.

    An unreadable manifest becomes an empty one, which is just as unusable.
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
