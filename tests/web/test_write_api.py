"""Datasette 1.0's write API: replaced rows and altered tables."""

import pytest

from support.commands import run
from support.rebuilds import COUNT, counts, delete, found_ids, make_photos, nearest
from support.web import ONE

pytestmark = pytest.mark.skipif(not ONE, reason="Datasette 0.65 has no write API")


@pytest.fixture
def path(tmp_path):
    return make_photos(tmp_path)


@pytest.fixture
def post(path, serve):
    datasette = serve(path)
    datasette.root_enabled = True

    async def post(address, body):
        await datasette.invoke_startup()
        headers = {"Authorization": f"Bearer {await datasette.create_token('root')}"}
        answer = await datasette.client.post(f"/photos/{address}", json=body, headers=headers)
        assert answer.json()["ok"], answer.text
        return answer.json()

    post.datasette = datasette
    return post


async def select(datasette, sql):
    answer = await datasette.client.get("/photos/-/query.json", params={"sql": sql})
    return answer.json()["rows"]


async def test_replacing_a_row(path, post):
    (row,) = await select(post.datasette, "select * from images where id = 6")
    await post("images/-/insert", {"rows": [row], "replace": True})
    await post("images/-/upsert", {"rows": [{**row, "mine": "other"}]})
    assert counts(path) == (COUNT, COUNT)
    hits = await select(post.datasette, "select id from clip_search(1, 10)")
    assert [hit["id"] for hit in hits] == nearest(1)
    row["content_hash"] = "other"
    await post("images/-/insert", {"rows": [row], "replace": True})
    assert counts(path) == (COUNT - 1, COUNT - 1)
    await post("images/6/-/delete", {})
    assert counts(path) == (COUNT - 1, COUNT - 1)


@pytest.mark.parametrize(
    "operation",
    [
        ("rename_column", {"name": "mine", "to": "yours"}),
        ("drop_column", {"name": "mine"}),
        ("alter_column", {"name": "mine", "type": "integer"}),
        ("reorder_columns", {"columns": ["mine", "id"]}),
        ("set_primary_key", {"columns": ["path"]}),
        ("add_foreign_key", {"column": "mine", "fk_table": "clip_failures", "fk_column": "path"}),
        ("rename_table", {"to": "pics"}),
        ("add_column", {"name": "more", "type": "text"}),
    ],
    ids=lambda operation: operation[0],
)
async def test_altering_the_table(path, post, connect, operation):
    if operation[0] == "add_foreign_key":
        await post("clip_failures/-/insert", {"rows": [failure(at) for at in range(3)]})
    op, args = operation
    await post("images/-/alter", {"operations": [{"op": op, "args": args}]})
    gone = nearest(1)[:2]
    delete(path, gone)
    hits = await select(post.datasette, "select id from clip_search(1, 10)")
    assert [hit["id"] for hit in hits] == nearest(1, gone)
    page = await post.datasette.client.get("/-/clip-search/photos")
    assert f"{COUNT - 2} pictures" in page.text
    picture = f"/-/clip-search/photos/thumbnail/{gone[0]}"
    assert (await post.datasette.client.get(picture)).status_code == 404
    assert run("clip-index", path).exit_code == 0
    assert counts(path) == (COUNT - 2, COUNT - 2)
    assert found_ids(connect(path), 1) == nearest(1, gone)


def failure(at):
    return {"path": f"x{at}", "reason": "none", "failed": ""}
