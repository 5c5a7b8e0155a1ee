"""Generate what README and docs show: help texts, tables and outputs, by running them."""

import ast
import asyncio
import io
import json
import re
import sqlite3
import tempfile
from contextlib import chdir, closing, redirect_stdout
from functools import cache
from pathlib import Path
from pprint import pformat
from typing import Any

from datasette_clip_search.sql import add_functions
from support.commands import run
from support.paths import DEMO_MODEL, DEMO_PICTURES


def show(text: str) -> None:
    """Print text for cog, with a blank line before and after it, as Markdown wants."""
    import cog

    cog.outl(f"\n{text}\n")


def show_help(name: str) -> None:
    show(help_text(name))


def show_sql(statement: str) -> None:
    show(sql(statement.strip()))


def command(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def help_text(name: str) -> str:
    text = command(name, "--help").replace("Usage: cli ", "Usage: sqlite-utils ")
    return f"```\n{text}\n```"


@cache
def demo() -> Path:
    folder = Path(tempfile.mkdtemp())
    (folder / "pictures").symlink_to(DEMO_PICTURES)
    database, pictures = str(folder / "photos.db"), str(folder / "pictures")
    # Where auto takes bf16, the last digits differ, and with them the order of what is alike.
    model = ["--model", "demo", "--pretrained", str(DEMO_MODEL)]
    options = [*model, "--precision", "fp32", "--text-tower", "32-bit"]
    command("embed-images", database, pictures, *options)
    return folder / "photos.db"


def sql(statement: str) -> str:
    """Return a statement and its rows, from the demo's pictures."""
    output = command("query", str(demo()), statement, "--table")
    lines = "\n".join(line.rstrip() for line in output.splitlines())
    return f"```sql\n{statement}\n```\n```\n{lines}\n```"


_names: dict[str, Any] = {}


def show_python(code: str) -> None:
    """Print Python code, and the values of its expressions, run in the demo's folder.

    The names that it binds stay bound for the rest of the page.
    """
    lines = []
    with chdir(demo().parent):
        imports = False
        for node in ast.parse(code).body:
            source = ast.get_source_segment(code, node) or ""
            is_import = isinstance(node, ast.Import | ast.ImportFrom)
            if imports and not is_import:
                # As ruff formats it.
                lines.append("")
            imports = is_import
            lines.append(source)
            if isinstance(node, ast.Expr):
                value = eval(source, _names)
                if value is not None:
                    lines += [f"# {line}" for line in pformat(_rounded(value)).splitlines()]
            else:
                with redirect_stdout(io.StringIO()) as printed:
                    exec(source, _names)
                lines += [f"# {line}" for line in printed.getvalue().splitlines()]
    show("```python\n" + "\n".join(lines) + "\n```")


def _rounded(value: Any) -> Any:
    """Return a value without its last digits, which depend on the processor."""
    if isinstance(value, float):
        # Not -0.0, which is a matter of the last digits.
        return round(value, 2) + 0.0
    if isinstance(value, tuple) and hasattr(value, "_replace"):
        return type(value)(*map(_rounded, value))
    return [_rounded(each) for each in value] if isinstance(value, list) else value


def index_status() -> str:
    """Return the output of clip-index --status for the demo's index, without its folder."""
    output = command("clip-index", str(demo()), "--status")
    return f"```\n{output.replace(str(demo().parent) + '/', '')}\n```"


def json_answer() -> str:
    """Return the JSON of the search page, with its numbers rounded."""
    from datasette.app import Datasette

    async def ask() -> Any:
        client = Datasette([str(demo())]).client
        return (await client.get("/-/clip-search/photos.json?q=dog+on+beach&k=1")).json()

    answer = asyncio.run(ask())
    for hit in answer["results"]:
        hit |= {name: round(hit[name], 2) for name in ("score", "z_score")}
    return f"```json\n{json.dumps(answer, indent=2)}\n```"


def config() -> str:
    """Return every field of the configuration, its value, and the comment above it.

    A comment with nothing below it is the title of a section.
    """
    from datasette_clip_search.common import config

    rows: list[tuple[list[str], list[str], list[str]]] = []
    in_comment = False
    for line in Path(config.__file__).read_text("utf-8").splitlines():
        if found := re.match(r"    # (.+)", line):
            if not in_comment:
                rows.append(([], [], []))
            rows[-1][2].append(found[1])
            in_comment = True
        elif found := re.match(r"    (\w+): [^=]+ = ", line):
            rows[-1][0].append(f"`{found[1]}`")
            rows[-1][1].append(_value(getattr(config.CONFIG, found[1])))
            in_comment = False
        elif not line and in_comment:
            rows[-1] = ([f"**{rows[-1][2][0]}**"], [], [])
            in_comment = False
    lines = [f"| {', '.join(a)} | {'; '.join(b)} | {' '.join(c)} |" for a, b, c in rows]
    return "\n".join(["| name | value | reason |", "|---|---|---|", *lines])


def _value(value: object) -> str:
    if isinstance(value, int | float) and (value >= 10_000 or value == int(value)):
        return f"{int(value):,}"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else f"{value}"


def page_limits() -> str:
    """Return the limits of the search page, from the configuration itself."""
    from datasette_clip_search.common.config import CONFIG

    limits = {
        "pictures on one page": f"{CONFIG.results_per_page}, at most "
        f"{CONFIG.max_results_per_page} (`k` in the address)",
        "characters in a query": f"{CONFIG.max_query_characters:,}",
        "seconds for a search": f"{CONFIG.search_seconds:g}",
        "an uploaded picture": f"{CONFIG.max_query_image_bytes // 10**6} MB and "
        f"{CONFIG.max_query_image_megapixels:g} megapixels "
        f"({CONFIG.max_query_image_decoded_megapixels:g} if it is not a JPEG)",
        "seconds to upload it, and to decode it": f"{CONFIG.upload_seconds:g} and "
        f"{CONFIG.query_decode_seconds:g}",
        "all uploaded pictures that wait": f"{CONFIG.max_uploads_bytes // 10**6} MB; "
        f"each counts as at least {CONFIG.least_upload_bytes // 1000} KB",
        "a thumbnail": f"{CONFIG.max_thumbnail_bytes // 10**6} MB",
    }
    rows = [f"| {name} | {limit} |" for name, limit in limits.items()]
    return "\n".join(["| limit | value |", "|---|---|", *rows])


def private_facts() -> str:
    """Return the table of the facts that a published database reveals, and how to change that."""
    from datasette_clip_search.database.private_facts import FACTS

    lines = ["| fact | where | published | to change it |", "|---|---|---|---|"]
    for fact in FACTS:
        by_default, option = ("yes", "--drop") if fact.is_kept else ("no", "--keep")
        change = f"`{option} {fact.name}`"
        lines.append(f"| {fact.what} | {fact.columns} | {by_default} | {change} |")
    others = (
        ("what can be seen: faces, number plates, screens", "thumbnails, vectors", "yes",
         "`--where`, `--no-thumbnails`"),
        ("folders outside the database's own, `..`, home folders, addresses",
         "`path`, `pretrained`",
         "no: the file's name alone, `./model`", "`--relative-to`"),
        ("metadata of files: EXIF, XMP, IPTC, ICC, comments", "thumbnails", "no", ""),
        ("width, height, format; the number format of vectors", "`images`, `precision`", "yes", ""),
        ("that there are more pictures at home", "gaps in `id`", "yes", ""),
        ("the name of the pictures' table; the weights' SHA-256", "", "yes", ""),
        ("your other tables, with their declarations and indexes", "", "no", "`--with-table`"),
        ("your columns of the pictures' table", "", "no", "`--with-column`"),
        ("views, triggers, deleted rows, failures, pruned pictures, int8's calibration, dates and "
         "picture counts of towers", "", "no", ""),
        ("when it was published, by which release, where originals are", "`clip_publication`",
         "yes", ""),
    )  # fmt: skip
    return "\n".join([*lines, *(f"| {' | '.join(other)} |" for other in others)])


NAN = "x'" + "0000c07f" * 128 + "'"
ODD_ARGUMENTS = (
    ("null", "clip_search(null)", None),
    ("empty or blank text", "clip_search(' ')", None),
    ("megabytes of text", "clip_search(replace(hex(zeroblob(500000)), '00', 'dog '))", None),
    ("NUL in text", "clip_search('dog' || char(0) || 'on beach', 1)", None),
    ("the tokenizer's own tokens, as text", "clip_search('<end_of_text>', 1)", None),
    ("a number that is not an id", "clip_search(1.5)", None),
    ("an unknown id", "clip_search(4711)", None),
    ("a picture without a vector", "clip_search(1)", "pictures without vectors"),
    ("a blob of another size", "clip_search(zeroblob(100))", None),
    ("a vector of zeros", "clip_search(zeroblob(512))", None),
    ("a vector with NaN or infinity", f"clip_search({NAN})", None),
    ("`k` is 0", "clip_search('dog', 0)", None),
    ("`k` is negative", "clip_search('dog', -1)", None),
    ("`k` is null", "clip_search('dog', null)", None),
    ("`k` is blank text", "clip_search('dog', '')", None),
    ("`k` is text with digits", "clip_search('dog', '2')", None),
    ("`k` is other text", "clip_search('dog', 'many')", None),
    ("`k` is not whole", "clip_search('dog', 2.5)", None),
    ("`k` is a blob", "clip_search('dog', x'01')", None),
    ("`k` is too large", "clip_search('dog', 1000000000)", None),
    ("`within` is null", "clip_search('dog', 3, null, null)", None),
    ("`within` is blank text", "clip_search('dog', 3, null, '')", None),
    ("`within` is empty", "clip_search('dog', 3, null, '[]')", None),
    ("`within` has unknown ids", "clip_search('dog', 3, null, '[5, 0, -7]')", None),
    ("`within` is not JSON", "clip_search('dog', 3, null, '5, 6')", None),
    ("`within` is not an array", "clip_search('dog', 3, null, 5)", None),
    ("`within` holds text", """clip_search('dog', 3, null, '[5, "6"]')""", None),
    (
        "`within` is too long",
        "clip_search('dog', 3, null, '[' || replace(hex(zeroblob(500000)), '0', '5,') || '6]')",
        None,
    ),
    ("no query", "clip_search", None),
    ("an unknown model", "clip_search('dog', 1, 'ViT-B-32')", None),
    ("null", "clip_search_json(null)", None),
    ("`k` is negative", "clip_search_json('dog', -1)", None),
    ("null", "clip_vector(null)", None),
    ("a number that is not an id", "clip_vector(1.5)", None),
    ("a mix that cancels out", "clip_mix('dog', 1, 'dog', -1)", None),
    ("a mix of nothing", "clip_mix()", None),
    ("a weight that is not a number", "clip_mix('dog', null)", None),
    ("all weights are 0", "clip_mix('dog', 0)", None),
    ("a null query", "clip_mix('dog', 1, null, 1)", None),
    ("null", "clip_similarity('dog', null)", None),
    ("a threshold out of range", "clip_duplicates(0.1)", None),
    ("a threshold that is not a number", "clip_duplicates('high')", None),
    ("labels are not JSON", "clip_tags(1, 'dog')", None),
    ("labels are not an array", "clip_tags(1, '{}')", None),
    ("no labels", "clip_tags(1, '[]')", None),
    ("a label is not text", "clip_tags(1, '[1]')", None),
    ("a label is given twice", """clip_tags(1, '["dog", "dog"]')""", None),
    ("labels are null", "clip_tags(1, null)", None),
    ("a database without embeddings", "clip_search('dog')", "nothing embedded"),
)
"""What is odd, a call, and the database to call it in unless that is the demo's."""


def odd_arguments(function: str) -> str:
    """Return a table of odd arguments of a function and their results, made by running them."""
    lines = ["| argument | example | result |", "|---|---|---|"]
    chosen = [odd for odd in ODD_ARGUMENTS if re.match(rf"{function}\b", odd[1])]
    for what, call, place in chosen:
        shown = call if len(call) < 60 else f"{call[:40]}…{call[-10:]}"
        shown = shown.replace("|", "\\|")
        lines.append(f"| {what} | `{shown}` | {answer(call, place)} |")
    return "\n".join(lines)


def answer(call: str, place: str | None = None) -> str:
    """Return the result of a call: the text of an error, NULL, or the number of rows."""
    with closing(sqlite3.connect(demo() if place is None else other_database(place))) as connection:
        add_functions(connection)
        is_scalar = re.match("(clip_search_json|clip_vector|clip_similarity|clip_mix)\\(", call)
        sql = f"select {call}" if is_scalar else f"select * from {call}"
        try:
            rows = connection.execute(sql).fetchall()
        except sqlite3.Error as error:
            return f"the error *{error}*"
        if is_scalar:
            return "NULL" if rows == [(None,)] else f"`{rows[0][0]}`"
        return f"{len(rows)} row{'s' * (len(rows) != 1)}" if rows else "no rows"


@cache
def other_database(kind: str) -> Path:
    copy = demo().with_name(f"{kind}.db")
    with closing(sqlite3.connect(copy)) as connection:
        if kind == "pictures without vectors":
            with closing(sqlite3.connect(demo())) as source:
                source.backup(connection)
            with connection:
                connection.execute("delete from clip_embeddings where image_id = 1")
    return copy
