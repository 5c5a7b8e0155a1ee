"""What the README shows: help texts and outputs, made by running them."""

import tempfile
from functools import cache
from pathlib import Path

from conftest import DEMO_MODEL, DEMO_PICTURES, run


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
    command("embed-images", database, pictures, "--pretrained", str(DEMO_MODEL))
    return folder / "photos.db"


def sql(statement: str) -> str:
    """Returns a statement and its rows, from the demo's pictures."""
    output = command("query", str(demo()), statement, "--table")
    lines = "\n".join(line.rstrip() for line in output.splitlines())
    return f"```sql\n{statement}\n```\n```\n{lines}\n```"


def tables() -> str:
    """Returns the tables with their columns, from the database itself."""
    from datasette_clip_search.schema import OWN_TABLES

    described = {
        "images": "one picture",
        "clip_models": "one model in one pretraining",
        "clip_embeddings": "one vector of one picture by one model",
        "clip_thumbnails": "one small picture for showing, without metadata",
        "clip_failures": "one file that could not be embedded, until it changes",
    }
    assert set(described) == {"images", *OWN_TABLES}
    lines = ["| table | one row is | columns |", "|---|---|---|"]
    for table, meaning in described.items():
        columns = command("query", str(demo()), f"select name from pragma_table_info('{table}')",
                          "--raw-lines").split()  # fmt: skip
        lines.append(f"| `{table}` | {meaning} | {', '.join(f'`{name}`' for name in columns)} |")
    return "\n".join(lines)
