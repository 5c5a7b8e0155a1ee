"""Views, canned queries and attached databases in Datasette."""

import csv
import io
import re
import sqlite3

import pytest

from support.commands import run
from support.vector_database import clustered, make, truth
from support.web import ONE

QUERY = "/-/query" if ONE else ""
LIKE_7 = "(select embedding from clip_embeddings where image_id = 7)"
QUERIES = {
    "find": "select rank, path from clip_search(:q)",
    "every": "select rank, path from clip_search(:q, :k, :model, :within)",
    "like": "select rank, path from clip_search(cast(:id as integer))",
    "json": "select value from json_each(clip_search_json(:q, :k, :model, :within))",
    "vector": "select hex(clip_vector(:q, :model)) as v",
    "mix": "select rank from clip_search(clip_mix(:a, 1, :b, -1))",
    "weighed": "select rank from clip_search(clip_mix(:a, :weight, 7, :other, :model))",
    "similar": "select id from images where clip_similarity(:a, :b) > 0.5",
    "tags": "select label from clip_tags(:q, :labels)",
    "copies": "select id from clip_duplicates(:threshold, :model)",
}


@pytest.fixture
def photos(tmp_path):
    file = make(tmp_path / "photos.db", clustered(300))
    connection = sqlite3.connect(file)
    connection.execute(f"create view dogs as select * from clip_search({LIKE_7}, 12)")
    connection.execute(f"create view some as select * from clip_search({LIKE_7})")
    connection.commit()
    connection.close()
    return file


@pytest.fixture
def best(photos):
    connection = sqlite3.connect(photos)
    ids, _ = truth(connection, clustered(300)[6], 12)
    connection.close()
    return ids


async def ids_of(datasette, path):
    response = await datasette.client.get(path)
    assert response.status_code == 200, response.text
    return [row["id"] for row in response.json()]


@pytest.mark.parametrize(("view", "count"), [("dogs", 12), ("some", 10)])
async def test_a_view_keeps_its_rows_under_any_query(photos, best, serve, view, count):
    datasette = serve(photos)
    start = f"/photos/{view}.json?_shape=array"
    inside, outside = best[:count], next(id for id in range(1, 300) if id not in best)
    assert await ids_of(datasette, start) == inside
    assert await ids_of(datasette, f"{start}&id={inside[3]}") == [inside[3]]
    assert await ids_of(datasette, f"{start}&id={outside}") == []
    some = ",".join(map(str, [inside[1], outside, inside[0]]))
    assert await ids_of(datasette, f"{start}&id__in={some}") == inside[:2]
    assert await ids_of(datasette, f"{start}&id__in={outside},0") == []
    assert await ids_of(datasette, f"{start}&id__in={inside[0]}") == inside[:1]
    assert await ids_of(datasette, f"{start}&id__exact={outside}") == []
    assert await ids_of(datasette, f"{start}&_sort_desc=score") == inside
    assert await ids_of(datasette, f"{start}&_sort=score") == inside[::-1]
    assert await ids_of(datasette, f"{start}&_sort=id") == sorted(inside)
    assert await ids_of(datasette, f"{start}&_where=id%25+2+=+1") == [id for id in inside if id % 2]
    assert await ids_of(datasette, f"{start}&_size=3") == inside[:3]
    page = await datasette.client.get(f"/photos/{view}.json?_size=5&_extra=count")
    data = page.json()
    assert (data["count"] if ONE else data["filtered_table_rows_count"]) == count
    following = str(data["next_url"]).partition("//")[2].partition("/")[2]
    page = await datasette.client.get("/" + following.replace("&_extra=count", ""))
    rows = page.json()["rows"]
    assert [row["id"] if ONE else row[1] for row in rows] == inside[5:10]
    response = await datasette.client.get(f"/photos/{view}.csv?_stream=on")
    assert [int(row["id"]) for row in csv.DictReader(io.StringIO(response.text))] == inside
    page = await datasette.client.get(f"/photos/{view}?_facet=id&_sort=path")
    assert page.status_code == 200
    assert {int(id) for id in re.findall(r'class="col-id[^"]*">(\d+)<', page.text)} == set(inside)


@pytest.mark.parametrize("name", QUERIES)
async def test_the_page_of_a_canned_query_opens_without_an_error(photos, serve, name):
    queries = {"databases": {"photos": {"queries": {name: {"sql": QUERIES[name]}}}}}
    datasette = serve(photos, config=queries)
    page = await datasette.client.get(f"/photos/{name}")
    assert page.status_code == 200
    assert "message-error" not in page.text
    assert "<textarea" in page.text or "<form" in page.text
    rows = (await datasette.client.get(f"/photos/{name}.json?_shape=array")).json()
    assert rows in ([], [{"v": ""}])


async def test_attached_to_memory_it_says_where_to_search(photos, tmp_path, serve):
    sqlite3.connect(tmp_path / "notes.db").close()
    datasette = serve(tmp_path / "notes.db", photos, crossdb=True)
    for sql in ["select * from clip_search('dog', 2)", "select clip_search_json('dog', 2)"]:
        response = await datasette.client.get(f"/_memory{QUERY}.json", params={"sql": sql})
        assert "Those of photos, which is attached, are not searched from here" in response.text
        assert "at /photos" in response.text
    path = f"/photos{QUERY}.json?_shape=array&sql=select+id+from+clip_search({LIKE_7},+2)"
    assert len(await ids_of(datasette, path)) == 2


def test_attached_to_another_file_it_says_what_to_run(photos, tmp_path):
    notes = tmp_path / "notes.db"
    connection = sqlite3.connect(notes)
    connection.execute("create table notes(id, note)")
    connection.close()
    sql = f"select id from clip_search({LIKE_7}, 2)"
    refused = run("query", notes, "--attach", "p", photos, sql)
    assert refused.exit_code == 1
    assert refused.output.endswith(
        "Those of p, which is attached, are not searched from here: run the SQL in Datasette at "
        "/p, or with sqlite-utils query photos.db SQL, which takes --attach for other databases\n"
    )
    told = run(
        "query", photos, "--attach", "n", notes, f"{sql} where id not in (select id from n.notes)"
    )
    assert told.exit_code == 0, told.output
