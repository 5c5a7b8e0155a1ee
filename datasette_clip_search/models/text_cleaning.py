"""What happens to a text before it is split into tokens: OpenCLIP's cleaning, and ours after it."""

import html
import re
import string
from collections.abc import Callable, Iterable

Clean = Callable[[str], str]

# No language's words are longer, and to split a word into tokens takes the square of its length.
_LONG_WORD = re.compile(r"\S{48}(?=\S)")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def cleaning(name: str) -> Clean:
    """Returns OpenCLIP's cleaning of a name: "lower", "whitespace" or "canonicalize".

    Raises KeyError for another one.
    """
    return {"lower": _lower, "whitespace": _whitespace, "canonicalize": _canonicalize}[name]


def safe(clean: Clean, special: Iterable[str]) -> Clean:
    """Returns a cleaning after which special tokens, such as <end_of_text>, are plain text.

    Endless words are cut into pieces, so that none takes the tokenizer long.
    """
    longer = sorted(token for token in special if len(token) > 1)
    find = re.compile("|".join(map(re.escape, longer)) if longer else "(?!)", re.IGNORECASE)

    def clean_further(text: str) -> str:
        # After the tokenizer's own cleaning, which makes < of &lt;. The space is none to OpenCLIP's
        # tokenizer, which takes < for a token of its own.
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
