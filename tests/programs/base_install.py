"""Check what a base install can do without torch; its own interpreter runs this.

Usage: python base_install.py DATABASE PICTURES
"""

import asyncio
import importlib.util
import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

database, pictures = map(Path, sys.argv[1:])


def sqlite_utils(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sqlite_utils", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


assert importlib.util.find_spec("torch") is None

by_id = sqlite_utils("query", database, "select * from clip_search(1, 3)")
assert by_id.returncode == 0, by_id.stderr
assert [row["rank"] for row in json.loads(by_id.stdout)] == [1, 2, 3]

sql = "select s.id from clip_embeddings, clip_search(embedding, 1) s where image_id = 2"
assert json.loads(sqlite_utils("query", database, sql).stdout) == [{"id": 2}]

sql = "select json_array_length(clip_search_json(1, 3)) as n"
assert json.loads(sqlite_utils("query", database, sql).stdout) == [{"n": 3}]

like = sqlite_utils("clip-search", database, "--like", "1", "--nl")
assert like.returncode == 0, like.stderr
assert json.loads(like.stdout.splitlines()[0])["rank"] == 1

# The text tower in the database needs no torch.
by_text = sqlite_utils("query", database, "select * from clip_search('dog', 3)")
assert by_text.returncode == 0, by_text.stderr
assert len(json.loads(by_text.stdout)) == 3
tags = 'select label from clip_tags(1, \'["dog", "cat"]\')'
assert len(json.loads(sqlite_utils("query", database, tags).stdout)) == 2

INSTALL = "pip install 'datasette-clip-search[embed]'"
bare = database.with_name("bare.db")
with closing(sqlite3.connect(database)) as whole, closing(sqlite3.connect(bare)) as without:
    whole.backup(without)
    without.execute("delete from clip_towers")
    without.commit()
by_text = sqlite_utils("query", bare, "select * from clip_search('dog', 3)")
assert by_text.returncode == 1
assert INSTALL in by_text.stderr
embed = sqlite_utils("embed-images", database, pictures, "--model", "x", "--pretrained", "y")
assert embed.returncode == 1
assert INSTALL in embed.stderr
assert "Traceback" not in embed.stderr + by_text.stderr

# The demo's model ships with both of its towers.
demo = Path(__file__).parents[2] / "demo"
phone, scenes = demo / "pictures" / "phone", database.with_name("scenes.db")
embed = sqlite_utils("embed-images", scenes, phone, "--pretrained", demo / "model")
assert embed.returncode == 0, embed.stderr
assert "onnx-16bit" in embed.stdout
found = sqlite_utils("query", scenes, "select path from clip_search('dog on beach', 2)")
assert "PXL_20230601_124824315.jpg" in found.stdout, found.stderr
picture = phone / "received-0099.webp"
found = sqlite_utils("clip-search", scenes, "--image", picture, "--nl")
assert json.loads(found.stdout.splitlines()[0])["path"].endswith(picture.name), found.stderr


async def serve(**how: object) -> None:
    from datasette.app import Datasette

    # Datasette allows a statement one second, which the first search on a busy machine can exceed.
    datasette = Datasette(**how, settings={"sql_time_limit_ms": 30_000})
    await datasette.invoke_startup()
    sql = "select id from clip_search(1, 3)"
    response = await datasette.client.get(
        f"/{database.stem}.json", params={"sql": sql, "_shape": "arrays"}, follow_redirects=True
    )
    assert response.status_code == 200, response.text
    assert len(response.json()["rows"]) == 3
    page = await datasette.client.get(f"/-/clip-search/{database.stem}")
    assert "This site does not accept other pictures" in page.text
    assert 'type="file"' not in page.text
    sent = await datasette.client.post(f"/-/clip-search/{database.stem}.json", content=b"GIF")
    assert "this instance searches by text and by its own pictures" in sent.json()["error"]
    page = await datasette.client.get(f"/-/clip-search/{database.stem}?like=1")
    assert page.status_code == 200, page.text
    page = await datasette.client.get(f"/-/clip-search/{database.stem}?q=dog")
    assert page.status_code == 200, page.text
    assert page.text.count("/thumbnail/") == 6


asyncio.run(serve(files=[str(database)]))
asyncio.run(serve(files=[], immutables=[str(database)]))
print("ok", sys.version.split()[0], sqlite3.sqlite_version)
