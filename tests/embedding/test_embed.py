"""The rows that embed-images writes, and those that a second run leaves alone."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys

import numpy as np
import pytest

from support.commands import run
from support.databases import rows
from support.embedding import summary, vectors
from support.pictures import make_picture

pytest.importorskip("open_clip")

from datasette_clip_search.common.errors import EncoderUnavailable
from datasette_clip_search.models.checkpoint import resolve
from datasette_clip_search.models.torch_model import TorchModel, _without_first_values


def test_everything_is_written(tiny_database, pictures, tmp_path):
    assert rows(tiny_database, "select path, width, height, format from images order by path") == [
        ("pictures/a.jpg", 64, 48, "JPEG"),
        ("pictures/b.png", 64, 48, "PNG"),
        ("pictures/c.webp", 64, 48, "WEBP"),
        ("pictures/d.jpg", 64, 48, "JPEG"),
        ("pictures/deep/f.jpg", 64, 48, "JPEG"),
        ("pictures/e.jpg", 64, 48, "JPEG"),
    ]
    for vector in vectors(tiny_database).values():
        assert vector.shape == (16,)
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)
    assert rows(tiny_database, "select distinct format from clip_thumbnails") == [("jpeg",)]
    assert rows(tiny_database, "select count(*) from clip_thumbnails") == [(6,)]
    assert rows(tiny_database, "select name, dimension, is_default from clip_models") == [
        ("tiny", 16, 1)
    ]
    assert (tmp_path / "photos.db.clip-1.faiss").stat().st_size > 6 * 16 * 4


def test_vectors_are_open_clips_own(tiny_database, pictures, tiny_model):
    import open_clip
    import torch
    from PIL import Image

    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tiny_model}")
    model.eval()
    stored = vectors(tiny_database)
    for name in ("a.jpg", "b.png", "deep/f.jpg"):
        with torch.inference_mode():
            pixels = preprocess(Image.open(pictures / name).convert("RGB"))[None]
            expected = model.encode_image(pixels, normalize=True)[0].numpy()
        assert stored[f"pictures/{name}"] @ expected > 0.9999


def test_weights_are_open_clips_own(tiny_model):
    import open_clip
    import torch

    model = TorchModel(resolve(None, str(tiny_model))).model
    expected = open_clip.create_model(f"local-dir:{tiny_model}")
    for kind in ("named_parameters", "named_buffers"):
        ours, theirs = dict(getattr(model, kind)()), dict(getattr(expected, kind)())
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_first_values_are_not_drawn():
    import torch

    before = torch.get_rng_state()
    with _without_first_values():
        torch.nn.Linear(3, 4)
        torch.nn.MultiheadAttention(4, 2)
        torch.nn.init.normal_(torch.empty(2, 2), std=0.5)
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_that_lack_some_do_not_load(tiny_model, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(tiny_model, tmp_path / "less")
    file = tmp_path / "less" / "open_clip_model.safetensors"
    weights = load_file(file)
    del weights["visual.proj"]
    save_file(weights, file)
    with pytest.raises(EncoderUnavailable, match="do not load"):
        TorchModel(resolve(None, str(tmp_path / "less")))


def test_summary(tmp_path, pictures, tiny_model):
    (pictures / "notes.txt").write_text("not a picture")
    (pictures / "broken.jpg").write_bytes(b"nonsense")
    result = run("embed-images", tmp_path / "photos.db", pictures, "--pretrained", tiny_model)
    assert result.exit_code == 0, result.output
    told = summary(result.stdout)
    assert told["Embedded"] == "6"
    assert told["Unchanged"] == "0"
    assert told["Failed"].startswith("1  (see: sqlite-utils rows ")
    assert told["Not pictures"] == "1  (1 .txt)"
    assert told["Model"] == "tiny"
    assert told["Device"].endswith(", fp32")
    assert float(told["Seconds"].split()[0].rstrip(",")) > 0
    assert told["Index"].endswith("photos.db.clip-1.faiss")
    assert "pictures/broken.jpg: It " in result.stderr
    failure = rows(tmp_path / "photos.db", "select path, reason from clip_failures")
    assert failure == [("pictures/broken.jpg", "It is not a picture in a format that can be read")]


def test_silent_prints_nothing(tmp_path, pictures, tiny_model):
    result = run(
        "embed-images", tmp_path / "p.db", pictures, "--pretrained", tiny_model, "--silent"
    )
    assert (result.exit_code, result.output) == (0, "")


def test_second_run_loads_no_model(tiny_database, pictures):
    """The command runs in its own process, which prints the modules that it imported."""
    code = (
        "import sys; from sqlite_utils.cli import cli\n"
        f"cli(['embed-images', {str(tiny_database)!r}, {str(pictures)!r}], standalone_mode=False)\n"
        "assert 'torch' not in sys.modules and 'open_clip' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    told = summary(result.stdout)
    assert (told["Embedded"], told["Unchanged"]) == ("0", "6")
    assert told["Index"].endswith("(up to date)")


def test_only_what_is_new_or_changed_is_embedded(tiny_database, pictures):
    before = vectors(tiny_database)
    make_picture(pictures / "a.jpg", 77)
    make_picture(pictures / "new.jpg", 78)
    os.utime(pictures / "b.png", (1, 1))
    shutil.copy(pictures / "d.jpg", pictures / "copy of d.jpg")
    told = summary(run("embed-images", tiny_database, pictures).stdout)
    assert (told["Embedded"], told["Unchanged"]) == ("2", "5")
    assert told["Copies"].startswith("1 ")
    after = vectors(tiny_database)
    assert set(after) == {*before, "pictures/new.jpg", "pictures/copy of d.jpg"}
    changed = {path for path in before if not np.array_equal(before[path], after[path])}
    assert changed == {"pictures/a.jpg"}
    assert np.array_equal(after["pictures/copy of d.jpg"], after["pictures/d.jpg"])
    assert rows(tiny_database, "select count(*) from clip_thumbnails") == [(8,)]


def test_swapped_contents(tiny_database, pictures):
    before = vectors(tiny_database)
    a, d = pictures / "a.jpg", pictures / "d.jpg"
    a_bytes, d_bytes = a.read_bytes(), d.read_bytes()
    a.write_bytes(d_bytes)
    d.write_bytes(a_bytes)
    os.utime(a, (1, 1))
    os.utime(d, (2, 2))
    run("embed-images", tiny_database, pictures)
    after = vectors(tiny_database)
    assert after["pictures/a.jpg"] @ before["pictures/d.jpg"] == pytest.approx(1, abs=1e-5)
    assert after["pictures/d.jpg"] @ before["pictures/a.jpg"] == pytest.approx(1, abs=1e-5)


def test_failures_wait_for_a_change(tiny_database, pictures):
    broken = pictures / "broken.jpg"
    broken.write_bytes(b"nonsense")
    assert summary(run("embed-images", tiny_database, pictures).stdout)["Failed"].startswith("1 ")
    again = run("embed-images", tiny_database, pictures)
    assert "Loading" not in again.stderr
    assert summary(again.stdout)["Failed"].startswith("1 ")
    make_picture(broken, 99)
    mended = summary(run("embed-images", tiny_database, pictures).stdout)
    assert (mended["Embedded"], mended["Failed"]) == ("1", "0")
    assert rows(tiny_database, "select count(*) from clip_failures") == [(0,)]


def test_picture_that_breaks_is_no_answer_any_more(tiny_database, pictures):
    (pictures / "a.jpg").write_bytes(b"nonsense")
    run("embed-images", tiny_database, pictures)
    assert "pictures/a.jpg" not in vectors(tiny_database)
    assert rows(tiny_database, "select count(*) from clip_thumbnails") == [(5,)]


def test_table_option_is_needed_once(tmp_path, pictures, tiny_model):
    database = tmp_path / "own.db"
    with sqlite3.connect(database) as connection:
        connection.execute("create table images (id integer primary key, mine text)")
        connection.execute("insert into images (mine) values ('precious')")
    connection.close()
    refused = run("embed-images", database, pictures, "--pretrained", tiny_model)
    assert refused.exit_code == 1
    assert "Give the pictures' table another name with --table" in refused.stderr
    assert rows(database, "select name from sqlite_master") == [("images",)]
    taken = run("embed-images", database, pictures, "--pretrained", tiny_model, "--table", "photos")
    assert summary(taken.stdout)["Table"] == "photos"
    again = run("embed-images", database, pictures)
    assert summary(again.stdout)["Unchanged"] == "6"
    assert rows(database, "select mine from images") == [("precious",)]
    found = run("query", database, "select path from clip_search(1, 2)", "--nl")
    assert len(found.stdout.splitlines()) == 2
    other = run("embed-images", database, pictures, "--table", "more")
    assert "keeps its pictures in the table photos already" in other.stderr


def test_renamed_table_is_found(tiny_database):
    with sqlite3.connect(tiny_database) as connection:
        connection.execute('alter table images rename to "the ""best"" pictures"')
    connection.close()
    found = run("query", tiny_database, "select * from clip_search(1, 9)", "--nl")
    assert len(found.stdout.splitlines()) == 5


def test_folder_can_move_with_its_database(tiny_database, tmp_path, tmp_path_factory):
    moved = tmp_path_factory.mktemp("elsewhere") / "moved"
    shutil.move(tmp_path, moved)
    told = summary(run("embed-images", moved / "photos.db", moved / "pictures").stdout)
    assert told["Unchanged"] == "6"


def test_pictures_elsewhere_are_stored_by_absolute_path(tmp_path, pictures, tiny_model):
    database = tmp_path / "away" / "photos.db"
    database.parent.mkdir()
    run("embed-images", database, pictures, "--pretrained", tiny_model)
    paths = {path for (path,) in rows(database, "select path from images")}
    assert str(pictures / "a.jpg") in paths


def test_deleting_a_picture_deletes_what_belongs_to_it(tiny_database):
    with sqlite3.connect(tiny_database) as connection:
        connection.execute("delete from images where path like '%.png'")
    connection.close()
    for table in ("clip_embeddings", "clip_thumbnails"):
        assert rows(tiny_database, f"select count(*) from {table}") == [(5,)]


def test_second_model_lives_beside_the_first(tiny_database, pictures, other_model):
    told = summary(run("embed-images", tiny_database, pictures, "--pretrained", other_model).stdout)
    assert (told["Embedded"], told["Model"]) == ("6", "other")
    assert told["Index"].endswith("photos.db.clip-2.faiss")
    assert "tiny" in told["Searches"]
    sql = "select name, is_default, count(*) from clip_models join clip_embeddings"
    assert rows(tiny_database, f"{sql} on model_id = id group by id") == [
        ("tiny", 1, 6),
        ("other", 0, 6),
    ]


def test_moved_checkpoint_is_the_same_model(tiny_database, pictures, tiny_model, tmp_path):
    moved = tmp_path / "weights"
    shutil.copytree(tiny_model, moved)
    told = summary(run("embed-images", tiny_database, pictures, "--pretrained", moved).stdout)
    assert (told["Embedded"], told["Unchanged"]) == ("0", "6")
    assert rows(tiny_database, "select pretrained from clip_models") == [("./weights",)]


def test_pages_are_filled(tmp_path, tiny_model):
    """Vectors of common lengths waste less than 15% of the pages that hold them."""
    from datasette_clip_search.database.connection import connect
    from datasette_clip_search.database.prepare import create_tables

    for dimension in (256, 384, 512, 640, 768, 1024, 1152):
        database = tmp_path / f"{dimension}.db"
        connection = connect(database)
        create_tables(connection, "images")
        before = connection.execute("pragma page_count").fetchone()[0]
        connection.execute("begin")
        connection.executemany(
            "insert into clip_embeddings (model_id, image_id, embedding) values (1, ?, ?)",
            ((number, os.urandom(4 * dimension)) for number in range(20_000)),
        )
        connection.execute("commit")
        pages = connection.execute("pragma page_count").fetchone()[0] - before
        size = connection.execute("pragma page_size").fetchone()[0]
        connection.close()
        assert pages * size <= 1.15 * 20_000 * 4 * dimension + 20_000 * 24, dimension


def test_interrupted_run_keeps_its_work(tmp_path, tiny_model):
    from datasette_clip_search.embedding import EmbedOptions, embed_images
    from datasette_clip_search.embedding.report import EmbedProgress

    class Impatient(EmbedProgress):
        done = 0

        def advance(self, pictures: int) -> None:
            self.done += pictures
            if self.done - pictures < 6 <= self.done:
                signal.raise_signal(signal.SIGINT)

    for seed in range(20):
        make_picture(tmp_path / "pictures" / f"{seed}.png", seed)
    database = tmp_path / "photos.db"
    options = EmbedOptions(pretrained=str(tiny_model), batch_size=2)
    summary = embed_images(database, [tmp_path / "pictures"], options, Impatient())
    assert summary.interrupted
    assert 6 <= summary.embedded == len(vectors(database)) < 20
    assert summary.index.exists()
    assert embed_images(database, [tmp_path / "pictures"]).embedded == 20 - summary.embedded
    assert len(vectors(database)) == 20


def test_what_a_limit_or_a_permission_refused_is_tried_again(tiny_database, pictures):
    make_picture(pictures / "large.png", 30, (2000, 1000))
    os.mkfifo(pictures / "pipe.jpg")
    refused = run("embed-images", tiny_database, pictures, "--max-megapixels", "1")
    assert summary(refused.stdout)["Failed"].startswith("2 ")
    assert "pictures/large.png: It has 2 megapixels (2000 x 1000) and the limit is 1" in (
        refused.stderr
    )
    assert "pictures/pipe.jpg: It is not a regular file" in refused.stderr
    (pictures / "pipe.jpg").unlink()
    make_picture(pictures / "pipe.jpg", 31)
    taken = summary(run("embed-images", tiny_database, pictures).stdout)
    assert (taken["Embedded"], taken["Failed"]) == ("2", "0")


def test_missing_files_are_counted(tiny_database, pictures):
    (pictures / "a.jpg").unlink()
    (pictures / "b.png").rename(pictures / "renamed.png")
    told = summary(run("embed-images", tiny_database, pictures).stdout)
    assert told["Missing"] == "1  (pictures/a.jpg; --prune deletes their rows)"
    assert told["Moved"].startswith("1 ")
    assert "Missing" not in summary(run("embed-images", tiny_database, pictures / "deep").stdout)


def test_copies_of_what_was_deleted(tiny_database, pictures):
    with sqlite3.connect(tiny_database) as connection:
        connection.execute("delete from clip_thumbnails")
    connection.close()
    shutil.copy(pictures / "d.jpg", pictures / "copy.jpg")
    told = summary(run("embed-images", tiny_database, pictures).stdout)
    assert (told["Embedded"], told["Copies"][:2]) == ("0", "1 ")
    assert len(vectors(tiny_database)) == 7
