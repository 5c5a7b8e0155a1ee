"""Text for a terminal that may hold what a stranger wrote: a file's name, or a database's text."""

import unicodedata

# Joins letters into words in some scripts, and symbols into one, and hides nothing.
_JOINERS = "\u200c\u200d"
# Control codes; formatting, among it what turns the direction of writing; halves of characters;
# and the ends of lines and paragraphs.
_INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def visible(text: str, keep: str = "") -> str:
    r"""Returns a text with what commands a terminal written out, such as \x1b; `keep` stays.

    What is returned once is left as it is.
    """
    if text.isprintable():
        return text
    return "".join(
        _written_out(character) if _is_hidden(character) and character not in keep else character
        for character in text
    )


def _is_hidden(character: str) -> bool:
    return character not in _JOINERS and unicodedata.category(character) in _INVISIBLE


def _written_out(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
