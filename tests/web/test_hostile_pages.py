"""The search page of a database with a hostile index, model or pictures."""

import json
import sqlite3
from dataclasses import asdict

import faiss
import numpy as np
import pytest

from datasette_clip_search.database.index import index_path, read_header
from datasette_clip_search.database.model import default_model
from datasette_clip_search.database.vectors import read_vectors
from support.databases import change
from support.indexes import padded, put_together
from support.web import PAGE

pytest.importorskip("open_clip")

ADDRESSES = (f"{PAGE}?like=1", f"{PAGE}.json?like=1&k=5", f"{PAGE}?q=dog", PAGE)


def put_index(database):
    """Replace a good index with one that has wild ids and a correct checksum."""
    connection = sqlite3.connect(database)
    _, model = default_model(connection)
    ids, vectors = read_vectors(connection, model)
    connection.close()
    base = faiss.IndexIDMap(faiss.IndexFlatIP(model.dimension))
    base.add_with_ids(vectors, np.arange(len(ids), dtype=np.int64) + (1 << 40))
    exact = faiss.IndexFlatIP(model.dimension)
    exact.add(vectors)
    path = index_path(database, model.id)
    facts = json.loads(json.dumps(asdict(read_header(path))))
    # The existing file may be in use.
    path.unlink()
    path.write_bytes(put_together(padded(faiss.IndexRefine(base, exact)), ids, facts))


async def test_an_index_with_wild_ids(folder, serve, caplog):
    expected = (await serve(folder / "photos.db").client.get(f"{PAGE}.json?like=1")).json()
    put_index(folder / "photos.db")
    photos = serve(folder / "photos.db")
    for address in ADDRESSES:
        assert (await photos.client.get(address)).status_code == 200
    found = (await photos.client.get(f"{PAGE}.json?like=1")).json()
    assert found["results"] == expected["results"]
    told = [record.getMessage() for record in caplog.records if "Not using" in record.getMessage()]
    assert len(told) == 1


@pytest.mark.parametrize("dimension", [0, 3_000_000, 2**40, "abc", 16.5])
async def test_a_wrong_dimension(folder, serve, dimension):
    change(folder / "photos.db", "update clip_models set dimension = ?", [dimension])
    photos = serve(folder / "photos.db")
    for address in ADDRESSES:
        response = await photos.client.get(address)
        assert response.status_code == 400
        assert "clip_models has a row that embed-images did not write" in response.text
    # The rest of the site still works.
    for address in ("/", "/photos", "/photos/images", "/photos/clip_models"):
        assert (await photos.client.get(address)).status_code == 200


@pytest.mark.parametrize("value", ["x", b"\xff\0", 2.5, -1, 9e999, "<script>alert(1)</script>"])
async def test_facts_of_other_types(folder, serve, value):
    facts = "path = ?1 || id, width = ?1, height = ?1, taken = ?1, camera = ?1"
    change(folder / "photos.db", f"update images set {facts}", [value])
    change(folder / "photos.db", "update clip_thumbnails set format = ?1, data = ?1", [value])
    photos = serve(folder / "photos.db")
    for address in ADDRESSES:
        response = await photos.client.get(address)
        assert response.status_code == 200
        assert "<script>alert" not in response.text or address.startswith(f"{PAGE}.json")
    assert (await photos.client.get(f"{PAGE}/thumbnail/1")).status_code == 404
