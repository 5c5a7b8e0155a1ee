"""Check a few files before fetching a model for them: perhaps none is a picture."""

from collections.abc import Sequence

from ..common.config import CONFIG
from ..common.terminal_text import visible
from ..pictures.processes.pool import DecodeFailure, DecoderPool, Settings
from .outcomes import Failed
from .plan import Work

# The most failures that an error lists.
_LISTED = 10


def find_only_failures(
    work: Sequence[Work], decoders: DecoderPool, settings: Settings
) -> list[Failed]:
    """Return why a few files are not pictures; nothing if one is, or if there are more files."""
    if len(work) > CONFIG.files_looked_at_first or any(source.in_order for source, _ in work):
        return []
    failures: list[Failed] = []
    for source, _ in work:
        outcome = decoders.submit(source, None, settings).result()
        if not isinstance(outcome, DecodeFailure):
            return []
        failures.append(Failed(source, outcome.advice))
    return failures


def describe_failures(failed: Sequence[tuple[str, str]]) -> str:
    """Return the error for a new database without pictures, from stored paths and reasons."""
    shown = "\n".join(f"  {visible(stored)}: {reason}" for stored, reason in failed[:_LISTED])
    more = f"\n  and {len(failed) - _LISTED} more" if len(failed) > _LISTED else ""
    count = f"None of the {len(failed)} files" if len(failed) > 1 else "The file"
    return f"{count} could not be embedded:\n{shown}{more}"
