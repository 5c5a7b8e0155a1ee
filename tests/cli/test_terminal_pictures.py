"""Pictures in the terminal: the output of clip-search --show, interpreted like a terminal does."""

import base64
import io
import os
import re

import pytest
from PIL import Image

from datasette_clip_search.cli.terminal_pictures import Way, draw, way_of
from datasette_clip_search.common.errors import CommandError
from datasette_clip_search.database.thumbnails import Thumbnail
from support.commands import run

SIZE = os.terminal_size((80, 24))


def thumbnail(width: int, height: int) -> Thumbnail:
    """A picture with a red upper half and a blue lower half."""
    image = Image.new("RGB", (width, height), (255, 0, 0))
    image.paste((0, 0, 255), (0, height // 2, width, height))
    data = io.BytesIO()
    image.save(data, "PNG")
    return Thumbnail("image/png", data.getvalue())


KITTY, ITERM2, TRUE_COLOUR, COLOURS_256 = Way


@pytest.mark.parametrize(
    ("environ", "is_terminal", "way"),
    [
        ({"TERM": "xterm-kitty"}, True, KITTY),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, True, KITTY),
        ({"TERM": "xterm-ghostty"}, True, KITTY),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "ghostty"}, True, KITTY),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, True, ITERM2),
        ({"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, True, ITERM2),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, True, ITERM2),
        # Into a pipe, such as to a pager; and in a multiplexer, which shows no graphics.
        ({"TERM": "xterm-kitty"}, False, TRUE_COLOUR),
        ({"TERM": "tmux-256color", "KITTY_WINDOW_ID": "1"}, True, COLOURS_256),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/tmux"}, True, TRUE_COLOUR),
        ({"TERM": "screen-256color", "COLORTERM": "truecolor"}, True, TRUE_COLOUR),
        ({"TERM": "xterm-256color", "COLORTERM": "24bit"}, True, TRUE_COLOUR),
        ({"WT_SESSION": "1"}, True, TRUE_COLOUR),
        ({"TERM": "xterm-256color"}, True, COLOURS_256),
    ],
)
def test_terminals_are_recognised_by_their_environment(environ, is_terminal, way):
    assert way_of(environ, is_terminal) is way


@pytest.mark.parametrize("environ", [{}, {"TERM": "dumb"}, {"TERM": "xterm"}])
def test_terminals_without_colours(environ):
    with pytest.raises(CommandError, match=r"can't show pictures. Expected kitty, .* --open"):
        way_of(environ, True)


def cells(text: str) -> list[list[tuple[str, str, str]]]:
    """Return the character, colour and background of every cell of a terminal."""
    lines = []
    for line in text.split("\n"):
        row, codes = [], "39;49"
        for code, character in re.findall(r"\x1b\[([\d;]+)m|(.)", line):
            if code:
                codes = "39;49" if code == "0" else code
            else:
                row.append((character, *re.fullmatch(r"(39|38;.*);(49|48;.*)", codes).groups()))
        lines.append(row)
    return lines


RED, BLUE = "2;255;0;0", "2;0;0;255"


def test_half_blocks():
    """A cell shows two pixels, or one at the bottom of an odd height, above the captions."""
    tiles = [(thumbnail(40, 30), "1 ", "a.jpg"), (thumbnail(39, 13), "2 ", "b.jpg")]
    lines = cells("".join(draw(tiles, Way.TRUE_COLOUR, SIZE)))
    assert len(lines) == 15 + 3
    first, second = [line[:39] for line in lines[:15]], [line[41:80] for line in lines[:15]]
    assert all(line[0] == ("▀", f"38;{RED}", f"48;{RED}") for line in first[:6])
    assert all(line[38] == ("▀", f"38;{BLUE}", f"48;{BLUE}") for line in first[9:14])
    assert all(cell == (" ", "39", "49") for line in second[:8] for cell in line)
    assert {cell[0] for line in second[8:] for cell in line} == {"▀"}
    assert second[8][20] == ("▀", f"38;{RED}", f"48;{RED}")
    assert second[14][20] == ("▀", f"38;{BLUE}", "49")
    assert "".join(cell[0] for cell in lines[15]) == "1 a.jpg" + " " * 34 + "2 b.jpg"


def test_colours_of_256():
    [text] = [draw([(thumbnail(40, 30), "", "")], Way.COLOURS_256, SIZE)]
    lines = cells("".join(text))
    assert lines[0][0] == ("▀", "38;5;196", "48;5;196")
    assert lines[13][0] == ("▀", "38;5;21", "48;5;21")


def test_kitty():
    """The whole file in chunks of 4 KB; the first chunk has the position and the size."""
    sent = Thumbnail("image/png", _noise(300, 200))
    text = "".join(draw([(None, "", ""), (sent, "", "")], Way.KITTY, SIZE))
    pieces = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", text)
    assert [keys for keys, _ in pieces[1:]] == ["m=1"] * (len(pieces) - 2) + ["m=0"]
    assert pieces[0][0] == "a=T,f=100,q=2,C=1,c=39,r=13,m=1"
    assert max(len(data) for _, data in pieces) == 4096
    _same_pixels("".join(data for _, data in pieces), sent)
    # Fifteen new lines, up by the thirteen of the picture, past the first tile, and down again.
    assert text.startswith("\n" * 15 + "\x1b[13A\r\x1b[41C\x1b7\x1b_G")
    assert "\x1b\\\x1b8\x1b[13B\r" in text


def test_iterm2():
    sent = Thumbnail("image/png", _noise(30, 40))
    text = "".join(draw([(sent, "", "")], Way.ITERM2, SIZE))
    keys, data = re.search(r"\x1b\]1337;File=([^:]*):([^\x07]*)\x07", text).groups()
    size = len(base64.b64decode(data))
    assert keys == f"inline=1;size={size};width=22;height=15;preserveAspectRatio=1"
    _same_pixels(data, sent)


def _noise(width: int, height: int) -> bytes:
    output = io.BytesIO()
    Image.effect_noise((width, height), 80).convert("RGB").save(output, "PNG")
    return output.getvalue()


def _same_pixels(data: str, sent: Thumbnail) -> None:
    received = Image.open(io.BytesIO(base64.b64decode(data)))
    assert received.format == "PNG"
    assert received.tobytes() == Image.open(io.BytesIO(sent.data)).tobytes()


@pytest.mark.parametrize("way", Way)
@pytest.mark.parametrize("broken", [None, Thumbnail("image/jpeg", b"nonsense")])
def test_pictures_that_are_not_there_leave_room(way, broken):
    text = "".join(draw([(broken, "1 ", "a.jpg")], way, SIZE))
    assert text.strip() == "1 a.jpg"
    assert text.count("\n") == 17


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("a.jpg", "7 a.jpg"),
        ("folder/" * 9 + "a.jpg", None),
        ("\x1b]0;title\x07.jpg", "7 \ufffd]0;title\ufffd.jpg"),
        ("写真/" * 20 + "a.jpg", None),
    ],
)
def test_captions(path, shown):
    """A caption is one line without escape codes that ends with the name of the file."""
    text = "".join(draw([(None, "7 ", path), (None, "8 ", "b")], Way.TRUE_COLOUR, SIZE))
    [line] = [line for line in text.split("\n") if line.strip()]
    first = line.removesuffix("8 b").rstrip()
    if shown:
        assert first == shown
    else:
        assert first.startswith("7 …")
        assert first.endswith("/a.jpg")
    wide = sum(2 if character in "写真" else 1 for character in line)
    assert wide == 41 + len("8 b")


@pytest.mark.parametrize(("columns", "lines"), [(1, 1), (20, 5), (79, 24), (400, 3), (400, 80)])
def test_terminals_of_every_size(columns, lines):
    """No line is wider than the terminal, so that it wraps none."""
    size = os.terminal_size((columns, lines))
    tiles = [(thumbnail(40, 30), "", "")] * 12
    drawn = cells("".join(draw(tiles, Way.TRUE_COLOUR, size)))
    assert 0 < max(len(line) for line in drawn) <= columns


def test_show(tiny_database, monkeypatch):
    for name in ("KITTY_WINDOW_ID", "TMUX", "STY", "WT_SESSION", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    result = run("clip-search", tiny_database, "dog", "-k", "3", "--show")
    assert result.exit_code == 0, result.output
    found = cells(result.stdout)
    assert sum(cell[0] == "▀" for line in found for cell in line) == 3 * 39 * 15
    captions = re.findall(r"id (\d)  (-?0\.\d{3})  pictures/\S+", result.stdout)
    assert len(captions) == 3
    monkeypatch.setenv("TERM", "dumb")
    result = run("clip-search", tiny_database, "dog", "-k", "3", "--show")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "This terminal (TERM=dumb) can't show pictures" in result.stderr
