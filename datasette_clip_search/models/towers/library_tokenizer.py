"""A check of Hugging Face tokenizers: their JSON can hold patterns, and only known ones may run."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager

# In the library's JSON: a pattern, and an escaped letter that needs no escape, which could hide the
# word "Regex". A word of the vocabulary has a number after it.
_PATTERN = re.compile(r'"Regex"\s*:\s*("(?:[^"\\]|\\.)*")?')
_ESCAPED = re.compile(r"(?<!\\)(?:\\\\)*\\u(?!00[01])")

_CONTRACTIONS = "'s|'t|'re|'ve|'m|'ll|'d"
_KNOWN = {
    # CLIP's.
    r"\s+",
    _CONTRACTIONS + r"|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    r"<\|startoftext\|>|<\|endoftext\|>|" + _CONTRACTIONS + r"|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    # GPT-2's, and those of later language models.
    _CONTRACTIONS + r"| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    # T5's and its relatives': runs of spaces.
    r" {2,}",
    r"^\s+",
    r"\s+$",
}


def check_library_tokenizer(text: str) -> None:
    """Raise ValueError for a tokenizer's JSON that holds an unknown pattern."""
    if _ESCAPED.search(text):
        raise ValueError("an escaped letter in the JSON of a tokenizer")
    for found in _PATTERN.finditer(text):
        if found[1] is not None and json.loads(found[1]) not in _KNOWN:
            raise ValueError("an unknown pattern in the JSON of a tokenizer")


@contextmanager
def panics_are_errors() -> Iterator[None]:
    """Turn a panic of Rust code, which `except Exception` misses, into a ValueError."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise ValueError("the library tokenizers failed") from error
