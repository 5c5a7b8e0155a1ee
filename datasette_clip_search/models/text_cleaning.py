"""Cleaning a text before it is split into tokens: OpenCLIP's cleaning, then ours."""

import html
import re
import string
from collections.abc import Callable, Iterable

Clean = Callable[[str], str]

# Longer than the words of any language: the time to split a word grows with its square.
_LONG_WORD = re.compile(r"\S{48}(?=\S)")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def find_cleaning(name: str) -> Clean:
    """Return the cleaning that OpenCLIP calls "lower", "whitespace" or "canonicalize".

    Raises KeyError for any other name.
    """
    return {"lower": _lower, "whitespace": _whitespace, "canonicalize": _canonicalize}[name]


def make_safe(clean: Clean, special: Iterable[str]) -> Clean:
    """Return a cleaning that makes plain text of special tokens, such as <end_of_text>.

    It also cuts endless words into pieces, which would take the tokenizer long.
    """
    longer = sorted(token for token in special if len(token) > 1)
    find = re.compile("|".join(map(re.escape, longer)) if longer else "(?!)", re.IGNORECASE)

    def clean_further(text: str) -> str:
        # After the tokenizer's own cleaning, which turns &lt; into <. OpenCLIP's tokenizer ignores
        # the space: to it, < is a token of its own.
        return _LONG_WORD.sub(r"\g<0> ", find.sub(_broken, clean(text)))

    return clean_further


def _broken(found: re.Match[str]) -> str:
    return f"{found[0][0]} {found[0][1:]}"


def _basic(text: str) -> str:
    import ftfy

    fixed: str = ftfy.fix_text(text)
    return html.unescape(html.unescape(fixed)).strip()


def _whitespace(text: str) -> str:
    return " ".join(_basic(text).split())


def _lower(text: str) -> str:
    return _whitespace(text).lower()


def _canonicalize(text: str) -> str:
    plain = _basic(text).replace("_", " ").translate(_WITHOUT_PUNCTUATION)
    return " ".join(plain.lower().split())
