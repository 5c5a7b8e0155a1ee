"""Image towers: made, checked, stored, shipped, and used without torch."""

import json
import logging
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from support.commands import run
from support.databases import change, rows
from support.models import make_model
from support.paths import DEMO_MODEL, DEMO_PICTURES
from support.pictures import make_picture
from support.towers import EMBED, torch_encoder, without_torch

pytest.importorskip("open_clip")
pytest.importorskip("onnxscript")

NONE_PASSES = "need torch; no image tower was made: No precision makes torch's vectors"
FIND = "select id from clip_search(?, 10)"
QUERY = (
    "import sqlite3; from datasette_clip_search.sql import add_functions\n"
    "connection = sqlite3.connect(sys.argv[1]); add_functions(connection)\n"
    "data = open(sys.argv[2], 'rb').read()\n"
    f"try: print([id for (id,) in connection.execute({FIND!r}, [data])])\n"
    "except sqlite3.OperationalError as error: print(error)\n"
)


def reported(result):
    """Return the line of a run's output about queries by pictures."""
    assert result.exit_code == 0, result.output
    found = re.search("By pictures: +(.*)\n", result.stdout)
    return found and found[1]


def facts(database):
    sql = "select data from clip_towers where part = 0 and tower = 'image'"
    return [json.loads(manifest) for (manifest,) in rows(database, sql)]


def vectors_of(database, after=0):
    sql = "select image_id, embedding from clip_embeddings where image_id > ? order by image_id"
    return {id: np.frombuffer(blob, "<f4") for id, blob in rows(database, sql, after)}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a model, six pictures, and their database with both towers; to be copied."""
    folder = tmp_path_factory.mktemp("towers") / "made"
    model = make_model(folder / "model")
    for seed in range(6):
        make_picture(folder / "pictures" / f"{seed}.png", seed)
    options = ["--pretrained", model, "--with-image-search", "--precision", "fp32"]
    result = run("embed-images", folder / "photos.db", folder / "pictures", *options)
    assert re.match(
        r"16-bit image tower, 0\.\d MB, cosine at least 0\.9999  \(made", reported(result)
    )
    return folder


@pytest.fixture
def folder(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "copy"))


@pytest.fixture
def exported_once(made, monkeypatch, tmp_path_factory):
    """Export the model of `made` once for all tests: that takes torch seconds."""
    from datasette_clip_search.models.towers.making import make_image

    real, kept = make_image.export_tower, made / "exported"

    def export(model, size, file):
        if not kept.exists():
            kept.mkdir()
            real(model, size, kept / file.name)
        shutil.copytree(kept, file.parent, dirs_exist_ok=True)

    monkeypatch.setattr(make_image, "export_tower", export)


# Made and stored.


def test_kept_where_asked_for(made, folder):
    [kept] = facts(made / "photos.db")
    assert kept["precision"] == "16-bit"
    assert kept["verified"]["queries"] == 12
    assert kept["verified"]["cosine"] >= 0.9999
    [[preprocess]] = rows(made / "photos.db", "select preprocess from clip_models")
    assert kept["preprocess"] == json.loads(preprocess)
    again = run("embed-images", folder / "photos.db", folder / "pictures")
    assert reported(again).endswith("(up to date)")
    assert facts(folder / "photos.db") == [kept]
    none = run("embed-images", folder / "photos.db", folder / "pictures", "--image-tower", "none")
    assert reported(none) == "need torch (--image-tower none)"
    assert facts(folder / "photos.db") == []
    assert reported(run("embed-images", folder / "photos.db", folder / "pictures")) is None
    both = ["--with-image-search", "--image-tower", "none"]
    assert run("embed-images", folder / "photos.db", folder / "pictures", *both).exit_code == 2


def test_precisions(folder, exported_once):
    """Each makes torch's vectors, whatever else is in the batch."""
    from datasette_clip_search.database.model import default_model
    from datasette_clip_search.models.towers.image import ImageTower
    from datasette_clip_search.models.towers.making.make_image import reference_pictures
    from datasette_clip_search.models.towers.stored import read_manifest, read_tower

    encoder = torch_encoder(folder / "model")
    pixels = reference_pictures(encoder.preprocess)
    exact = encoder.encode_pixels(pixels)
    for precision, least in (("32-bit", 0.999999), ("8-bit", 0.995)):
        options = ["--image-tower", precision]
        result = run("embed-images", folder / "photos.db", folder / "pictures", *options)
        assert reported(result).startswith(f"{precision} image tower")
        with closing(sqlite3.connect(folder / "photos.db")) as connection:
            model = default_model(connection)[1]
            manifest = read_manifest(connection, model, "image")
            tower = ImageTower(read_tower(connection, model, manifest, "image"))
        vectors = tower.encode_pixels(pixels)
        assert (vectors * exact).sum(axis=1).min() >= least
        assert np.array_equal(tower.encode_pixels(pixels[::-1]), vectors[::-1])


@pytest.mark.parametrize(
    ("amounts", "options", "expected"),
    [
        ({16: 0.1}, [], "32-bit image tower, .*not 16-bit: "),
        ({16: 0.1}, ["--image-tower", "16-bit"], NONE_PASSES),
        ({8: 0.3}, ["--image-tower", "8-bit"], NONE_PASSES),
    ],
)
def test_spoilt_towers_are_refused(folder, exported_once, spoil, amounts, options, expected):
    spoil(amounts)
    change(folder / "photos.db", "delete from clip_towers where tower = 'image'")
    asked = ["--with-image-search", *options]
    result = run("embed-images", folder / "photos.db", folder / "pictures", *asked)
    assert re.match(expected, reported(result))


def test_what_ships_is_what_the_checkpoint_makes():
    """The towers beside the demo's model belong to its weights, and make its vectors."""
    from datasette_clip_search.database.model import models
    from datasette_clip_search.models.towers.image import ImageTower
    from datasette_clip_search.models.towers.making.check_texts import TEXTS
    from datasette_clip_search.models.towers.stored import read_manifest, read_tower
    from datasette_clip_search.models.towers.text import TextTower

    encoder = torch_encoder(DEMO_MODEL)
    with closing(sqlite3.connect(DEMO_MODEL / "towers.db")) as connection:
        [model] = models(connection)
        assert (model.fingerprint, model.dimension) == (encoder.fingerprint, encoder.dimension)
        assert connection.execute("select count(*) from images").fetchone() == (0,)
        kept = {
            tower: read_tower(connection, model, read_manifest(connection, model, tower), tower)
            for tower in ("text", "image")
        }
    assert {each.facts["precision"] for each in kept.values()} == {"16-bit"}
    exact = encoder.encode_texts(TEXTS)
    assert (TextTower(kept["text"]).encode_texts(TEXTS) * exact).sum(axis=1).min() >= 0.9999
    tower = ImageTower(kept["image"])
    assert tower.preprocess == encoder.preprocess
    noise = np.random.default_rng(3).integers(0, 256, (4, 96, 96, 3), np.uint8)
    exact = encoder.encode_pixels(noise)
    assert (tower.encode_pixels(noise) * exact).sum(axis=1).min() >= 0.9999


# Without torch.


def test_more_pictures_and_queries_without_torch(demo_database, tmp_path, connect):
    """The towers beside the weights embed as torch does, under the same ids."""
    for seed in range(20):
        make_picture(tmp_path / "new" / f"{seed:02}.png", seed, (200, 150))
    exact, ours = (shutil.copy(demo_database, tmp_path / name) for name in ("exact.db", "ours.db"))
    options = ["--pretrained", DEMO_MODEL, "--precision", "fp32"]
    assert run("embed-images", exact, tmp_path / "new", *options).exit_code == 0
    output = without_torch(EMBED, ours, tmp_path / "new", *options[:2]).stdout
    assert re.search("Embedded: +20\n", output), output
    assert "Device:       cpu, onnx-16bit" in output
    stored = "the pictures were embedded with the stored image tower (onnx-16bit)"
    assert f"torch is not installed, so {stored}" in output
    assert re.search(r"By pictures: .*  \(copied from the folder of the model\)\n", output), output
    again = without_torch(EMBED, ours, tmp_path / "new", *options[:2]).stdout
    assert re.search(r"By pictures: .*  \(up to date\)\n", again), again
    expected, found = vectors_of(exact, 160), vectors_of(ours, 160)
    assert list(found) == list(expected) == list(range(161, 181))
    assert min(found[id] @ expected[id] for id in found) >= 0.9999
    paths = "select id, path from images order by id"
    assert rows(ours, paths) == rows(exact, paths)
    assert rows(ours, "select count(*) from clip_models") == [(1,)]
    sql = "select precision, count(*) from clip_embeddings where image_id > 160 group by 1"
    assert rows(ours, sql) == [("onnx-16bit", 20)]
    # A picture is found by its bytes, and so are similar ones.
    picture = DEMO_PICTURES / "phone" / "received-0099.webp"
    [[id]] = rows(ours, "select id from images where path like '%received-0099.webp'")
    top = json.loads(without_torch(QUERY, ours, picture).stdout)
    expected = [id for (id,) in connect(exact).execute(FIND, [picture.read_bytes()])]
    assert top[0] == id
    assert top == expected


def test_a_new_database_without_torch(tmp_path, connect):
    """A model that ships with its towers embeds, and the database gets them."""
    options = ["--model", "demo", "--pretrained", DEMO_MODEL]
    pictures = DEMO_PICTURES / "phone"
    output = without_torch(EMBED, tmp_path / "photos.db", pictures, *options).stdout
    assert "16-bit text tower" in output
    assert "16-bit image tower" in output
    dogs = connect(tmp_path / "photos.db").execute(
        "select path from clip_search('dog on beach', 2)"
    )
    assert "PXL_20230601_124824315.jpg" in next(dogs)[0]


def test_weights_may_be_elsewhere(folder):
    """The database's own tower embeds in their place, with torch and without."""
    shutil.rmtree(folder / "model")
    make_picture(folder / "pictures" / "new.png", 7)
    output = without_torch(EMBED, folder / "photos.db", folder / "pictures").stdout
    assert re.search("Embedded: +1\n", output), output
    make_picture(folder / "pictures" / "newer.png", 8)
    result = run("embed-images", folder / "photos.db", folder / "pictures")
    assert re.search("Embedded: +1\n", result.stdout), result.output
    stored = "so the pictures were embedded with the stored image tower (onnx-16bit)"
    assert f"The model's weights are not where they were, {stored}" in result.stdout
    sql = "select precision from clip_embeddings where image_id > 6"
    assert rows(folder / "photos.db", sql) == [("onnx-16bit",)] * 2
    assert rows(folder / "photos.db", "select pretrained from clip_models") == [("./model",)]


def test_errors_say_where_torch_is_needed(folder):
    database, pictures = folder / "photos.db", folder / "pictures"
    make_picture(pictures / "new.png", 7)
    asked = without_torch(EMBED, database, pictures, "--precision", "fp32").stdout
    assert "--precision fp32 needs them. Leave both out, or run: pip install" in asked
    change(database, "update clip_towers set data = x'00' where tower = 'image' and part = 2")
    damaged = without_torch(EMBED, database, pictures).stdout
    assert (
        "Its image tower is damaged. To make it again, run: sqlite-utils embed-images with"
        in damaged
    )
    assert "Its image tower is damaged" in without_torch(QUERY, database, pictures / "0.png").stdout
    change(database, "delete from clip_towers where tower = 'image'")
    lacking = without_torch(EMBED, database, pictures).stdout
    assert "this database stores no image tower of model. Run: pip install" in lacking
    told = without_torch(QUERY, database, pictures / "0.png").stdout
    assert "this instance searches by text and by its own pictures" in told
    assert "embed-images with --with-image-search" in told
    assert str(folder) not in told


def test_damaged_towers_are_logged_once(folder, connect, caplog):
    """Torch is used in their place."""
    change(folder / "photos.db", "update clip_towers set data = x'00' where tower = 'image'")
    data = (folder / "pictures" / "3.png").read_bytes()
    for _ in range(2):
        with caplog.at_level(logging.WARNING):
            assert next(connect(folder / "photos.db").execute(FIND, [data])) == (4,)
    [record] = caplog.records
    assert "Its image tower is damaged" in record.getMessage()


PAGE = """
import asyncio
from datasette.app import Datasette
async def main():
    datasette = Datasette([sys.argv[1]])
    await datasette.invoke_startup()
    page = await datasette.client.get("/-/clip-search/photos")
    assert page.status_code == 200, page.text
    print("This site does not accept other pictures" in page.text)
    data = open(sys.argv[2], "rb").read()
    sent = (await datasette.client.post("/-/clip-search/photos.json", content=data)).json()
    print(sent["results"][0]["id"] if sent["ok"] else sent["error"])
asyncio.run(main())
"""


def test_the_page_searches_with_pictures_or_says_that_it_cannot(folder):
    picture = folder / "pictures" / "3.png"
    assert without_torch(PAGE, folder / "photos.db", picture).stdout == "False\n4\n"
    change(folder / "photos.db", "delete from clip_towers where tower = 'image'")
    told = without_torch(PAGE, folder / "photos.db", picture).stdout
    assert told.startswith("True\n")
    assert "this instance searches by text and by its own pictures" in told
