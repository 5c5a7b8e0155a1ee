"""Split SQL text into tokens, nested by parentheses.

nested("select id from near('a')") == [word("select"), word("id"), word("from"), word("near"),
                                      Token("group", "", (Token("string", "'a'"),))]
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

MOST_CHARACTERS = 1_000_000
MOST_DEPTH = 60
MOST_TOKENS = 20_000
"""Reading this many takes some 60 ms, during which no other thread runs."""

_NUMBER = r"(?:0x[0-9a-f]+|(?:\d[\d_]*(?:\.[\d_]*)?|\.\d[\d_]*)(?:e[+-]?\d+)?)"
_CONSTANT = rf"(?:-?{_NUMBER}|\?)"
_TOKENS = re.compile(
    rf"""
      (?P<space>[\s\ufeff]+|--[^\n]*|/\*.*?(?:\*/|\Z))
    | (?P<blob>x'[0-9a-f]*')
    | (?P<string>'[^']*(?:''[^']*)*')
    | (?P<name>"[^"]*(?:""[^"]*)*"|`[^`]*(?:``[^`]*)*`|\[[^\]]*\])
    | (?P<word>[a-z_\x80-\U0010ffff][\w$]*)
    | (?P<many>{_CONSTANT}(?:\s*,\s*{_CONSTANT}){{7,}}(?![\w.?]))
    | (?P<number>{_NUMBER})
    | (?P<parameter>\?\d*|[:@$][\w$:]+(?:\([^)]*\))?)
    | (?P<operator><>|!=|==|<=|>=|\|\||->>?|<<|>>|.)
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)


class Unreadable(Exception):
    "The text is too long, or nested too deeply, to be read."


class Token(NamedTuple):
    """A token; `text` is in lower case where SQL ignores case.

    A `group` holds the tokens between two parentheses. `many` stands for a list of eight constants
    or more, which may be very long.
    """

    kind: str
    text: str
    inside: tuple["Token", ...] = ()


def nested(text: str) -> list[Token]:
    """Return the tokens of an SQL text; raise Unreadable if it is too long or too deep."""
    if len(text) > MOST_CHARACTERS:
        raise Unreadable
    levels: list[list[Token]] = [[]]
    for number, match in enumerate(_TOKENS.finditer(text)):
        if number > MOST_TOKENS:
            raise Unreadable
        kind = str(match.lastgroup)
        if kind == "space":
            continue
        found = match.group()
        if found == "(":
            levels.append([])
            if len(levels) > MOST_DEPTH:
                raise Unreadable
        elif found == ")":
            if len(levels) == 1:
                raise Unreadable
            group = Token("group", "", tuple(levels.pop()))
            levels[-1].append(group)
        elif kind == "name":
            quote = found[-1]
            levels[-1].append(Token(kind, found[1:-1].replace(quote * 2, quote).lower()))
        elif kind == "many":
            levels[-1].append(Token(kind, ""))
        else:
            levels[-1].append(Token(kind, found if kind == "string" else found.lower()))
    if len(levels) > 1:
        raise Unreadable
    return levels[0]


def is_word(tokens: Sequence[Token], place: int, *words: str) -> bool:
    """Tell whether the token at a place is one of these keywords."""
    if not 0 <= place < len(tokens):
        return False
    return tokens[place].kind == "word" and tokens[place].text in words


def is_operator(tokens: Sequence[Token], place: int, *operators: str) -> bool:
    if not 0 <= place < len(tokens):
        return False
    return tokens[place].kind == "operator" and tokens[place].text in operators


def is_name(tokens: Sequence[Token], place: int) -> bool:
    return 0 <= place < len(tokens) and tokens[place].kind in ("word", "name")


def is_group(tokens: Sequence[Token], place: int) -> bool:
    return 0 <= place < len(tokens) and tokens[place].kind == "group"


def is_query(tokens: Sequence[Token]) -> bool:
    """Tell whether the tokens of a group are a SELECT."""
    return is_word(tokens, 0, "select", "with", "values")


def split(tokens: Sequence[Token], *separators: str) -> list[list[Token]]:
    """Split tokens at keywords or operators of their own level."""
    parts: list[list[Token]] = [[]]
    for token in tokens:
        if token.kind in ("word", "operator") and token.text in separators:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def all_names(tokens: Sequence[Token]) -> list[str]:
    """Return every name and keyword in tokens, at any depth."""
    found: list[str] = []
    waiting = [tokens]
    while waiting:
        for token in waiting.pop():
            if token.kind in ("word", "name"):
                found.append(token.text)
            elif token.kind == "group":
                waiting.append(token.inside)
    return found


def literal(tokens: Sequence[Token]) -> tuple[object] | None:
    """Return the value of a literal, in a tuple, or None for anything else."""
    sign = 1
    if is_operator(tokens, 0, "-", "+") and len(tokens) == 2 and tokens[1].kind == "number":
        sign = -1 if tokens[0].text == "-" else 1
        tokens = tokens[1:]
    if len(tokens) != 1:
        return None
    kind, text, _ = tokens[0]
    if kind == "string":
        return (text[1:-1].replace("''", "'"),)
    if kind == "blob":
        return (bytes.fromhex(text[2:-1]),) if len(text) % 2 else None
    if kind == "number" and text.isdecimal() and len(text) < 19:
        return (sign * int(text),)
    return (None,) if kind == "word" and text == "null" else None


def words(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


def find_word(tokens: Sequence[Token], *words: str, after: int = 0) -> int:
    """Return the place of the first of these keywords, or the number of tokens if there is none."""
    for place in range(after, len(tokens)):
        if is_word(tokens, place, *words) and not is_operator(tokens, place - 1, "."):
            return place
    return len(tokens)
