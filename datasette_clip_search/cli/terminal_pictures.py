"""Show pictures in a terminal, with its graphics protocol or else with half blocks.

The protocols are kitty's (sw.kovidgoyal.net/kitty/graphics-protocol) and iTerm2's
(iterm2.com/documentation-images.html).
"""

import base64
import io
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from itertools import islice
from typing import TYPE_CHECKING

from ..common.config import CONFIG
from ..common.errors import CommandError, PictureError
from ..database.thumbnails import Thumbnail

if TYPE_CHECKING:
    from PIL.Image import Image

# The narrowest width at which a picture drawn with half blocks is still recognisable.
_COLUMNS = 38
_GAP = 2
# The most that kitty accepts in one escape sequence.
_CHUNK = 4096


class Way(Enum):
    """A way to show pictures in a terminal."""

    KITTY = "kitty"
    ITERM2 = "iterm2"
    TRUE_COLOUR = "24-bit half blocks"
    COLOURS_256 = "256-colour half blocks"


def way_of(environ: Mapping[str, str], is_terminal: bool) -> Way:
    """Return the best way for a terminal, judged by its environment variables.

    Raises CommandError if the terminal has too few colours.
    """
    term, program = environ.get("TERM", ""), environ.get("TERM_PROGRAM", "")
    # These do not pass graphics through, and their variables about the outer terminal can be stale.
    is_inside = "TMUX" in environ or "STY" in environ or term.startswith(("screen", "tmux"))
    is_kitty = term in {"xterm-kitty", "xterm-ghostty"} or program == "ghostty"
    if is_terminal and not is_inside:
        if is_kitty or "KITTY_WINDOW_ID" in environ:
            return Way.KITTY
        if program in {"iTerm.app", "WezTerm"} or environ.get("LC_TERMINAL") == "iTerm2":
            return Way.ITERM2
    if is_kitty or environ.get("COLORTERM") in {"truecolor", "24bit"} or "WT_SESSION" in environ:
        return Way.TRUE_COLOUR
    if "256color" in term:
        return Way.COLOURS_256
    raise CommandError(
        f"This terminal (TERM={term}) can't show pictures. Expected kitty, Ghostty, iTerm2, "
        "WezTerm, or a terminal with 24-bit or 256 colours. If yours has them, set "
        "COLORTERM=truecolor. Or open a contact sheet in the browser: --open"
    )


def draw(
    tiles: Iterable[tuple[Thumbnail | None, str, str]], way: Way, size: os.terminal_size
) -> Iterator[str]:
    """Yield the text that shows pictures side by side, each above its caption.

    A caption is a text and a path. The beginning of a path that is too long is cut off.
    """
    across = max(1, (size.columns + _GAP) // (_COLUMNS + _GAP))
    columns = max(1, (size.columns - (across - 1) * _GAP) // across)
    # The rows of a 4:3 picture, as cells are twice as high as wide. A row of pictures must fit.
    rows = max(1, min(round(columns * 3 / 8), size.lines - 3))
    remaining = iter(tiles)
    while row := list(islice(remaining, across)):
        pictures = [_fit(thumbnail, columns, rows) for thumbnail, _, _ in row]
        if way in (Way.KITTY, Way.ITERM2):
            yield _placed(pictures, way, columns, rows)
        else:
            yield _blocks(pictures, way, columns, rows)
        captions = [_caption(text, path, columns) for _, text, path in row]
        yield (" " * _GAP).join(captions).rstrip() + "\n\n"


class _Fitted:
    """A picture and the number of terminal cells that it covers."""

    def __init__(self, image: "Image", columns: int, rows: int):
        scale = min(columns / image.width, 2 * rows / image.height)
        self.image = image
        self.columns = max(1, round(image.width * scale))
        self.half_rows = max(1, round(image.height * scale))
        self.rows = (self.half_rows + 1) // 2


def _fit(thumbnail: Thumbnail | None, columns: int, rows: int) -> _Fitted | None:
    from ..pictures.decode import WEB_FORMATS, decode_picture

    if thumbnail is None:
        return None
    try:
        # A stranger may have made the database.
        limit = CONFIG.max_query_image_decoded_megapixels
        picture = decode_picture(thumbnail.data, max_megapixels=limit, formats=WEB_FORMATS)
    except PictureError:
        return None
    return _Fitted(picture.image, columns, rows)


def _blocks(pictures: list[_Fitted | None], way: Way, columns: int, rows: int) -> str:
    tiles = [_block_lines(picture, way, columns, rows) for picture in pictures]
    lines = ((" " * _GAP).join(line) for line in zip(*tiles, strict=True))
    return "".join(f"{line}\n" for line in lines)


def _block_lines(picture: _Fitted | None, way: Way, columns: int, rows: int) -> list[str]:
    if picture is None:
        return [" " * columns] * rows
    from PIL.Image import Resampling

    size = picture.columns, picture.half_rows
    image = picture.image.resize(size, Resampling.LANCZOS, reducing_gap=3.0)
    data = image.tobytes()
    stride = 3 * picture.columns
    lines = []
    for row in range(picture.rows):
        line, before = [], ""
        for start in range(2 * row * stride, (2 * row + 1) * stride, 3):
            above, below = data[start : start + 3], data[start + stride : start + stride + 3]
            colours = f"{_colour(above, way, 38)};{_colour(below, way, 48) if below else 49}"
            line.append("▀" if colours == before else f"\x1b[{colours}m▀")
            before = colours
        lines.append("".join(line) + "\x1b[0m" + " " * (columns - picture.columns))
    return [" " * columns] * (rows - picture.rows) + lines


def _colour(rgb: bytes, way: Way, layer: int) -> str:
    red, green, blue = rgb
    if way is Way.TRUE_COLOUR:
        return f"{layer};2;{red};{green};{blue}"
    red, green, blue = (round(value / 51) for value in rgb)
    return f"{layer};5;{16 + 36 * red + 6 * green + blue}"


def _placed(pictures: list[_Fitted | None], way: Way, columns: int, rows: int) -> str:
    # Make room first: at the end of the screen, drawing would scroll the pictures already drawn.
    text = ["\n" * rows]
    for place, picture in enumerate(pictures):
        if picture:
            right = place * (columns + _GAP)
            text.append(f"\x1b[{picture.rows}A\r" + (f"\x1b[{right}C" if right else ""))
            graphics = _kitty(picture) if way is Way.KITTY else _iterm2(picture)
            text.append(f"\x1b7{graphics}\x1b8\x1b[{picture.rows}B\r")
    return "".join(text)


def _kitty(picture: _Fitted) -> str:
    data = base64.b64encode(_png(picture.image)).decode()
    chunks = [data[start : start + _CHUNK] for start in range(0, len(data), _CHUNK)]
    keys = f"a=T,f=100,q=2,C=1,c={picture.columns},r={picture.rows},"
    text = []
    for number, chunk in enumerate(chunks, 1):
        text.append(f"\x1b_G{keys}m={int(number < len(chunks))};{chunk}\x1b\\")
        keys = ""
    return "".join(text)


def _iterm2(picture: _Fitted) -> str:
    data = _png(picture.image)
    keys = f"inline=1;size={len(data)};width={picture.columns};height={picture.rows}"
    return f"\x1b]1337;File={keys};preserveAspectRatio=1:{base64.b64encode(data).decode()}\x07"


def _png(image: "Image") -> bytes:
    output = io.BytesIO()
    image.save(output, "PNG")
    return output.getvalue()


def _caption(text: str, path: str, columns: int) -> str:
    """Return a caption of exactly `columns` columns."""
    # A path may contain escape codes, which must not reach the terminal.
    shown = "".join(character if character.isprintable() else "\ufffd" for character in path)
    if _width(text + shown) > columns:
        while shown and _width(f"{text}…{shown}") > columns:
            shown = shown[1:]
        shown = f"…{shown}"
    return text + shown + " " * (columns - _width(text + shown))


def _width(text: str) -> int:
    """Return the number of terminal columns that a text covers."""
    return sum(
        0 if unicodedata.combining(character)
        else 2 if unicodedata.east_asian_width(character) in "WF"
        else 1
        for character in text
    )  # fmt: skip
