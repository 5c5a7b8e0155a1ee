"""Print text that a stranger may have written, such as a file's name, safely in a terminal."""

import unicodedata

# They join letters in some scripts, and emoji, and hide nothing.
_JOINERS = "\u200c\u200d"
# Control codes; formatting, such as marks that turn the direction of writing; halves of characters;
# ends of lines and paragraphs.
_INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def visible(text: str, keep: str = "") -> str:
    r"""Return a text with control codes written out, such as \x1b, except those in `keep`.

    A second call changes nothing.
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
