"""Text for a terminal: control codes are escaped, and everything else is unchanged."""

import ast
from pathlib import Path

import pytest

import datasette_clip_search
from datasette_clip_search.cli.terminal import say
from datasette_clip_search.common.errors import CommandError, QueryError
from datasette_clip_search.common.terminal_text import visible

PACKAGE = Path(datasette_clip_search.__file__).parent


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a b.jpg", "a b.jpg"),
        ("Zoë 狗 🐶 \\x1b", "Zoë 狗 🐶 \\x1b"),
        # Emoji families and Persian use joiners, which hide nothing.
        ("👨\u200d👩\u200d👧", "👨\u200d👩\u200d👧"),
        ("\u0645\u06cc\u200c\u0634", "\u0645\u06cc\u200c\u0634"),
        ("\x1b]0;owned\x07", "\\x1b]0;owned\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("\x7f\x00\x08", "\\x7f\\x00\\x08"),
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("\u2066\u2069\u200e\u200f\u061c", "\\u2066\\u2069\\u200e\\u200f\\u061c"),
        ("\u2028\u2029\u200b\ufeff\u2060", "\\u2028\\u2029\\u200b\\ufeff\\u2060"),
        ("\U000e0041", "\\U000e0041"),
        ("caf\udce9", "caf\\udce9"),
        ("", ""),
    ],
)
def test_visible(text, shown):
    assert visible(text) == shown
    assert visible(shown) == shown
    shown.encode()


def test_our_own_line_breaks_stay():
    assert visible("one\ntwo\x1b", keep="\n") == "one\ntwo\\x1b"
    assert str(CommandError("one\ntwo\x1b\u202e")) == "one\ntwo\\x1b\\u202e"
    assert str(QueryError("one\ntwo\x1b\u202e")) == "one\\ntwo\\x1b\\u202e"


def test_say(capsys):
    say("a\x1bb")
    say("c\nd", err=True)
    assert capsys.readouterr() == ("a\\x1bb\n", "c\\nd\n")


# Output that is no sentence, or contains only our own text: JSON, HTML, paths for a pipe, pictures
# and their captions, a constant, and lines whose names are escaped already.
EXACT = {
    "cli/clip_index.py": ["json.dumps(report, indent=4)"],
    "cli/search_output.py": [
        "os.fsencode(file + end)",
        "_sheet(request, hits, lambda _: None)",
        "text",
    ],
    "cli/embed_output.py": [
        r"'\nFinishing the pictures in progress and the index. Press Ctrl-C again to stop at once'",
        "f\"{time.strftime('%H:%M:%S')}  {shown}\"",
    ],
    "cli/terminal.py": ["visible(text)"],
}


def test_everything_else_is_said():
    """Only `say` prints, so that no name is printed unescaped."""
    found: dict[str, list[str]] = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "click.echo",
                "click.secho",
                "print",
                "warnings.warn",
            ):
                name = file.relative_to(PACKAGE).as_posix()
                found.setdefault(name, []).append(ast.unparse(node.args[0]))
    left = {name: set(calls) - set(EXACT.get(name, ())) for name, calls in found.items()}
    assert not any(left.values()), left
    assert "cli/search_output.py" in found


def test_every_command_has_visible_errors():
    from sqlite_utils.cli import cli

    from datasette_clip_search.cli.command import Command

    ours = [c for c in cli.commands.values() if c.callback.__module__.startswith(PACKAGE.name)]
    assert len(ours) >= 4
    assert all(isinstance(command, Command) for command in ours)
