"""Hits: their rows and thumbnails, and how they show themselves in a notebook."""

import base64
import copy
import pickle
import re
import shutil
import sqlite3
from dataclasses import FrozenInstanceError, asdict
from html.parser import HTMLParser

import pytest

from datasette_clip_search import ClipSearchError, Collection, Hit, Hits
from datasette_clip_search.search.hits import SHOWN
from support.databases import rows

pytest.importorskip("open_clip")


@pytest.fixture(scope="module")
def photos(demo_database):
    with Collection(demo_database) as photos:
        yield photos


@pytest.fixture
def changed(tmp_path, demo_database):
    """Open a copy of the database after a change of it."""
    opened = []

    def changed(*statements: str) -> Collection:
        database = shutil.copy(demo_database, tmp_path / "photos.db")
        connection = sqlite3.connect(database)
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        connection.close()
        opened.append(Collection(database))
        return opened[-1]

    yield changed
    for photos in opened:
        photos.close()


class Images(HTMLParser):
    """Collects tags, attributes and text, as a browser reads them."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data

    @property
    def sources(self) -> list[str]:
        return [attributes["src"] for tag, attributes in self.tags if tag == "img"]


def test_hits_are_a_sequence(photos):
    hits = photos.search("dog", k=4)
    assert isinstance(hits, Hits)
    assert len(hits) == len([*hits]) == 4
    assert hits[-1] in hits
    assert isinstance(hits[:2], Hits)
    assert [*hits[:2], *hits[2:]] == [*hits]
    assert hits == photos.search("dog", k=4) != hits[:3]
    assert repr(hits).startswith(f"Hits([Hit(image_id={hits[0].image_id}, rank=1, score=0.")


def test_a_long_list_is_cut_where_it_is_shown(photos):
    hits = photos.search("dog", k=160)
    assert repr(hits).count("Hit(") == SHOWN
    assert repr(hits).endswith(", …])")
    page = hits._repr_html_()
    assert len(Images(page).sources) == SHOWN
    assert page.endswith(f"<p>and {160 - SHOWN} more</p>")


def test_a_hit_is_frozen_and_is_data(photos):
    [hit] = photos.search("dog", k=1)
    with pytest.raises(FrozenInstanceError):
        hit.rank = 2
    assert set(asdict(hit)) == {"image_id", "rank", "score", "z_score", "path"}
    assert {hit} == {*photos.search("dog", k=1)}


def test_a_hit_has_the_columns_of_its_row(photos, demo_database):
    [hit] = photos.search("dog", k=1)
    sql = "select camera, width from images where id = ?"
    assert [(hit["camera"], hit["width"])] == rows(demo_database, sql, hit.image_id)
    assert hit.row["path"] == hit.path
    with pytest.raises(KeyError):
        hit["nothing"]


def test_a_hit_whose_row_is_gone(changed, tmp_path):
    photos = changed()
    [hit] = photos.search("dog", k=1)
    connection = sqlite3.connect(tmp_path / "photos.db")
    connection.execute("delete from images where id = ?", [hit.image_id])
    connection.commit()
    connection.close()
    with pytest.raises(ClipSearchError, match=f"The picture {hit.image_id} has been deleted"):
        hit["camera"]
    assert hit.thumbnail is None
    assert "<img" not in hit._repr_html_()


def test_a_hit_tells_its_columns_and_is_no_list(photos):
    [hit] = photos.search("dog", k=1)
    assert "camera" in hit
    assert "nothing" not in hit
    with pytest.raises(TypeError, match="not iterable"):
        iter(hit)


def test_copies_of_hits_keep_their_database(photos):
    hits = photos.search("dog", k=2)
    for copied in (copy.copy(hits), copy.deepcopy(hits)):
        assert copied == hits
        assert copied[0].row == hits[0].row
        assert copied[0].thumbnail
    assert copy.copy(hits[0]).row == copy.deepcopy(hits[0]).row == hits[0].row


def test_pickled_hits_keep_what_the_search_found(photos):
    hits = photos.search("dog", k=2)
    again = pickle.loads(pickle.dumps(hits))
    assert again == hits
    assert repr(again) == repr(hits)
    with pytest.raises(ClipSearchError, match="This hit was pickled, which leaves its database"):
        again[0]["camera"]
    with pytest.raises(ClipSearchError, match="This hit was pickled"):
        assert again[0].thumbnail
    assert "<img" not in again._repr_html_()


def test_hits_show_themselves_when_the_tables_have_changed(changed, tmp_path):
    hits = changed().search("dog", k=2)
    connection = sqlite3.connect(tmp_path / "photos.db")
    connection.execute("drop table clip_thumbnails")
    connection.execute("create view clip_thumbnails as select 1 as image_id, 'svg' as format")
    connection.close()
    page = Images(hits._repr_html_())
    assert page.sources == []
    assert str(hits[1].image_id) in page.text


def test_hits_show_their_thumbnails(photos, demo_database):
    hits = photos.search("dog", k=3)
    [alone] = Images(hits[0]._repr_html_()).sources
    sources = Images(hits._repr_html_()).sources
    assert len(sources) == 3
    assert sources[0] == alone
    for hit, source in zip(hits, sources, strict=True):
        kind, data = re.fullmatch("data:image/(jpeg|png|webp);base64,(.+)", source).groups()
        sql = "select format, data from clip_thumbnails where image_id = ?"
        assert [(kind, base64.b64decode(data))] == rows(demo_database, sql, hit.image_id)
        assert hit.thumbnail == base64.b64decode(data)


def test_no_hits_say_so(photos):
    assert photos.search("dog", where="0")._repr_html_() == "<p>No hits</p>"


HOSTILE = "a/<script>alert(1)</script>\"' onerror=x &amp;\x1b[2J\u202egpj.jpg"


def test_text_from_strangers_is_escaped(changed):
    hostile = HOSTILE.replace("'", "''")
    photos = changed(
        f"update images set path = '{hostile}' where id = 1",
        "update clip_thumbnails set format = 'svg+xml', data = '<svg onload=x>' where image_id = 2",
        "update images set path = 'b.jpg' where id = 2",
    )
    shown = {hit.image_id: hit for hit in photos.search("dog", k=160)}
    page = Images(shown[1]._repr_html_())
    assert {tag for tag, _ in page.tags} == {"div", "figure", "figcaption", "img"}
    assert {name for _, found in page.tags for name in found} == {"style", "src", "alt", "title"}
    titles = [found["title"] for _, found in page.tags if "title" in found]
    assert titles == [HOSTILE.replace("\x1b", "\\x1b").replace("\u202e", "\\u202e")]
    page = Images(shown[2]._repr_html_())
    assert page.sources == []
    assert "b.jpg" in page.text


def test_no_folder_of_an_absolute_path_is_shown(changed):
    photos = changed("update images set path = '/home/ann/private/dog.jpg' where id = 1")
    [hit] = photos.search("dog", within=[1])
    assert hit.path == "/home/ann/private/dog.jpg"
    assert "ann" not in hit._repr_html_()
    assert "dog.jpg" in hit._repr_html_()


def test_a_hit_is_made_by_a_search_alone():
    with pytest.raises(TypeError):
        Hit(1, 1, 0.5, None, "a.jpg")
