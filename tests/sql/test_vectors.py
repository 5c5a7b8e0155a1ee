"""clip_vector and clip_similarity against numpy, and texts as the tokenizer reads them."""

import sqlite3

import numpy as np
import pytest

from support.commands import run
from support.databases import make_database, rows

open_clip = pytest.importorskip("open_clip")


def stored(database, image, model=1):
    sql = "select embedding from clip_embeddings where image_id = ? and model_id = ?"
    return rows(database, sql, image, model)[0][0]


def vector(blob):
    return np.frombuffer(blob, "<f4")


def close(blob):
    return pytest.approx(vector(blob), abs=1e-6)


@pytest.fixture(scope="module")
def database(tmp_path_factory, tiny_model):
    return make_database(tmp_path_factory.mktemp("vectors"), 6, tiny_model)


@pytest.fixture
def call(database, connect):
    """Return the value of an SQL expression."""
    connection = connect(database)
    return lambda sql, *parameters: connection.execute(f"select {sql}", parameters).fetchone()[0]


@pytest.fixture(scope="module")
def encoder(tiny_model):
    from datasette_clip_search.models.checkpoint import resolve
    from datasette_clip_search.models.torch_model import TorchModel
    from datasette_clip_search.models.weights_files import locate_weights

    return TorchModel(locate_weights(resolve("tiny", str(tiny_model)), fetch=False))


def test_vector_of_every_kind_of_query(call, encoder, database):
    own = stored(database, 2)
    assert vector(call("clip_vector(2)")) == close(own)
    assert vector(call("clip_vector(?)", own)) == close(own)
    longer = (vector(own) * 7).astype("<f4").tobytes()
    assert vector(call("clip_vector(?)", longer)) == close(own)
    path = rows(database, "select path from images where id = 2")[0][0]
    data = (database.parent / path).read_bytes()
    assert vector(call("clip_vector(?)", data)) == pytest.approx(vector(own), abs=1e-5)
    expected = encoder.encode_texts(["dog on beach"])[0]
    assert vector(call("clip_vector('dog on beach')")) == pytest.approx(expected, abs=1e-6)
    assert call("length(clip_vector('dog'))") == 64
    assert call("clip_vector(null)") is None


def test_similarity_is_the_cosine(call, encoder, database):
    one, other = vector(stored(database, 1)), vector(stored(database, 2))
    text = encoder.encode_texts(["dog"])[0]
    assert call("clip_similarity(1, 2)") == pytest.approx(one @ other, abs=1e-6)
    assert call("clip_similarity('dog', 2)") == pytest.approx(text @ other, abs=1e-6)
    assert call("clip_similarity(?, 'dog')", one.tobytes()) == pytest.approx(one @ text, abs=1e-6)
    assert call("clip_similarity(clip_vector('dog'), 'dog')") == pytest.approx(1, abs=1e-6)
    for sql in ("clip_similarity(null, 1)", "clip_similarity(1, null)"):
        assert call(sql) is None


def test_a_search_by_a_vector_is_the_search(database, connect):
    connection = connect(database)
    sql = "select id, score from clip_search({}, 6)"
    by_words = connection.execute(sql.format("'dog'")).fetchall()
    by_vector = connection.execute(sql.format("clip_vector('dog')")).fetchall()
    assert [image for image, _ in by_vector] == [image for image, _ in by_words]


def test_models_by_name_and_id(tiny_database, pictures, other_model, connect):
    result = run(
        "embed-images", tiny_database, pictures, "--model", "second", "--pretrained", other_model
    )
    assert result.exit_code == 0, result.output
    connection = connect(tiny_database)

    def call(sql, *parameters):
        return connection.execute(f"select {sql}", parameters).fetchone()[0]

    assert stored(tiny_database, 1, 1) != stored(tiny_database, 1, 2)
    for number, name in ((1, "tiny"), (2, "second")):
        own = stored(tiny_database, 1, number)
        for model in (number, name):
            assert vector(call("clip_vector(1, ?)", model)) == close(own)
            expected = float(vector(own) @ vector(stored(tiny_database, 2, number)))
            assert call("clip_similarity(1, 2, ?)", model) == pytest.approx(expected, abs=1e-6)
            assert vector(call("clip_mix(1, 1, ?)", str(model))) == close(own)
    default = rows(tiny_database, "select id from clip_models where is_default")[0][0]
    assert vector(call("clip_vector(1)")) == close(stored(tiny_database, 1, default))
    for wanted in ("third", 3, 1.5, b"tiny"):
        for sql in ("clip_vector(1, ?)", "clip_similarity(1, 2, ?)", "clip_mix(1, 1, ?)"):
            with pytest.raises(sqlite3.OperationalError, match="There is no model") as caught:
                call(sql, wanted)
            is_named = isinstance(wanted, str) or "mix" not in sql
            assert ("1 tiny, 2 second" in str(caught.value)) == is_named


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("x" * 2001, "The query has 2001 characters and the limit is 2000"),
        (999, "There is no picture with the id 999 in images"),
        (1.5, "The query 1.5 is a float"),
        (b"x" * 63, "The blob of 63 bytes is neither an embedding of tiny"),
        (np.full(16, np.nan, "<f4").tobytes(), "The embedding holds a number that is not finite"),
        (bytes(64), "The embedding is all zeros"),
    ],
)
def test_bad_queries(call, query, message):
    for sql in (
        "clip_vector(?)",
        "clip_similarity(?, 1)",
        "clip_similarity(1, ?)",
        "clip_mix(1, 1, ?, -1)",
    ):
        with pytest.raises(sqlite3.OperationalError) as caught:
            call(sql, query)
        assert message in str(caught.value)


SPECIAL = [
    "dog <end_of_text> on a beach",
    "<start_of_text>",
    "<END_OF_TEXT>dog",
    "dog<<end_of_text>>",
    "&lt;end_of_text&gt; dog",
    "&amp;lt;end_of_text&amp;gt; dog",
    "<end_of<end_of_text>_text> dog",
    "<|endoftext|> dog <|startoftext|>",
    "dog \0 cat",
    "<end_of_text>" * 200,
]


@pytest.mark.parametrize("text", SPECIAL)
def test_special_tokens_are_plain_text(encoder, text):
    tokenizer = encoder._tokenizer
    ids = tokenizer([text])[0].tolist()
    start, end = tokenizer.sot_token_id, tokenizer.eot_token_id
    assert ids[0] == start
    assert ids.count(start) == ids.count(end) == 1
    assert not any(ids[ids.index(end) + 1 :])
    assert ids.index(end) > 2


def test_special_tokens_are_read_by_their_characters(encoder):
    plain = open_clip.tokenizer.SimpleTokenizer()
    parts = [plain.encode(part) for part in ("dog <", "end_of_text", "> cat")]
    expected = [token for part in parts for token in part]
    assert encoder._tokenizer.encode("dog <end_of_text> cat") == expected
    for text in ("a dog, on the beach!", "<3 <end> of text"):
        assert encoder._tokenizer.encode(text) == plain.encode(text)


def test_special_tokens_cut_nothing_off(call):
    assert call("clip_similarity('dog', 'dog <end_of_text> on a beach')") < 0.9999
    assert call("clip_similarity('dog', 'dog' || char(0) || 'beach')") < 0.9999


def test_special_tokens_of_hugging_face(tmp_path):
    """The same for a tokenizer of transformers, with its own special tokens."""
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    from datasette_clip_search.models.torch_model import _safe

    words = ["<pad>", "<s>", "</s>", "<unk>", "xx_XX", "dog", "<", ">", "s", "/", "xx", "_"]
    model = tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, "<unk>")
    inner = tokenizers.Tokenizer(model)
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, additional_special_tokens=["xx_XX"], **names
    )
    fast.save_pretrained(tmp_path)
    tokenizer = open_clip.tokenizer.HFTokenizer(str(tmp_path), context_length=24)
    text = "dog </s> dog xx_XX &lt;s&gt; dog <pad>dog"
    assert {1, 2, 4} <= set(tokenizer([text])[0].tolist())
    ids = _safe(tokenizer)([text])[0].tolist()
    assert not {1, 2, 4} & set(ids)
    assert ids.count(words.index("dog")) == 4
    assert ids.index(0) == len(ids) - ids.count(0)


def test_endless_words_are_cut_and_words_forgotten(tiny_model, monkeypatch):
    """Splitting a word takes quadratic time, and OpenCLIP's tokenizer caches every word."""
    from datasette_clip_search.models import torch_model as encoders
    from datasette_clip_search.models.checkpoint import resolve

    encoder = encoders.TorchModel(resolve("tiny", str(tiny_model)))
    words = encoder._tokenizer.cache
    known = set(words)
    vectors = encoder.encode_texts(["abcdefgh" * 250, "a dog", "Rindfleischetikettierungsgesetz"])
    assert max(map(len, set(words) - known)) == 48
    assert len(vectors) == 3
    monkeypatch.setattr(encoders, "_MOST_WORDS", 50)
    for number in range(30):
        text = " ".join(f"{a}{b}q{number}x" for a in "abcde" for b in "vwxyz")
        encoder.encode_texts([text])
        assert len(words) <= 50 + 2 * 25 + 5
    assert known <= set(words)
    again = encoder.encode_texts(["abcdefgh" * 250, "a dog", "Rindfleischetikettierungsgesetz"])
    assert np.array_equal(again, vectors)


@pytest.mark.parametrize("blank", ["", " \n"])
def test_blank_queries_act_like_null(database, connect, blank):
    sql = "select clip_vector(?1), clip_similarity(?1, 1), clip_similarity(1, ?1), "
    sql += "clip_mix(?1, 1), clip_mix(1, ?1), clip_mix(1, 1, ?1, 0)"
    assert connect(database).execute(sql, [blank]).fetchone() == (None,) * 6
