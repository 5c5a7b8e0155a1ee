"""Texts to tokens without torch: the same tokens as OpenCLIP's own tokenizer makes for us."""

# ruff: noqa: RUF001

import json
import random
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

open_clip = pytest.importorskip("open_clip")

from datasette_clip_search.common.errors import EncoderUnavailable  # noqa: E402
from datasette_clip_search.models.torch_model import _safe  # noqa: E402
from datasette_clip_search.models.towers.making.check_texts import TEXTS  # noqa: E402
from datasette_clip_search.models.towers.making.tokenizer import pack_tokenizer  # noqa: E402
from datasette_clip_search.models.towers.tokens import read_tokenizer  # noqa: E402

ODD = (
    "",
    " ",
    "\t\n\u3000\u00a0\u2028",
    "\0",
    "dog\0cat",
    "\x1b[31mred\x1b[0m",
    "\ufeffdog",
    "\ud800 half of a pair",
    "\U0010ffff\ue000",
    "<start_of_text>",
    "a<END_OF_TEXT>b",
    "&lt;end_of_text&gt;",
    "&amp;lt;start_of_text&amp;gt;",
    "<\u017ftart_of_text>",
    "<end_of_text",
    "&#0; &#x110000; &nosuch; &amp",
    "it's IT'S it\u2019s 'S '\u017f we'Re y'all'd've",
    "''''s'''t",
    "1234567890 3.14 ½ ² Ⅷ ٣ ४ 一二三",
    "İ ı ß ẞ Ǆ ǅ ﬁ ſ K Å",
    "e\u0301 é E\u0301",
    "Z̷̛̮a̴͝l̵g̸o̶",
    "🐶👨‍👩‍👧‍👦🏳️‍🌈🇫🇷👍🏽",
    "中文字符 日本語テキスト 한국어",
    "עברית العربية \u202eright to left\u202c",
    "สวัสดี नमस्ते ကမ္ဘာ",
    "â€œmojibakeâ€\x9d sÃ¼Ã\x9f Ð¿Ñ€Ð¸Ð²ÐµÑ‚",
    "ｆｕｌｌ　ｗｉｄｔｈ ｶﾀｶﾅ",
    "a" * 48,
    "a" * 49,
    "x" * 2000,
    "é" * 500,
    "🐶" * 500,
    "dog " * 500,
    "!" * 200,
    "a.b,c;d:e-f_g/h\\i|j(k)l[m]n{o}p",
    "naïve café déjà-vu, coöperate",
    "http://example.org/a?b=c&copy;=1#d",
    *TEXTS,
)


def tokenizers(**options):
    own = _safe(open_clip.tokenizer.SimpleTokenizer(**options))
    facts, data = pack_tokenizer(own)
    # As it is read from a database.
    return own, read_tokenizer(json.loads(json.dumps(facts)), data)


PAIRS = {
    "lower": tokenizers(),
    "short": tokenizers(context_length=8),
    "canonicalize": tokenizers(clean="canonicalize"),
    "whitespace": tokenizers(clean="whitespace"),
    "more tokens": tokenizers(additional_special_tokens=["<pad>", "<mask>"]),
}


def tokens(tokenizer, text):
    try:
        return np.asarray(tokenizer([text])).tolist()
    except UnicodeEncodeError as error:
        return type(error)


def check(pair, text):
    own, ours = PAIRS[pair]
    assert tokens(ours, text) == tokens(own, text)


@pytest.mark.parametrize("pair", PAIRS)
def test_odd_texts(pair):
    for text in ODD:
        check(pair, text)


@pytest.mark.parametrize("pair", PAIRS)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=st.text(max_size=300))
def test_any_text(pair, text):
    check(pair, text)


@settings(max_examples=200, deadline=None)
@given(
    text=st.lists(
        st.sampled_from(
            [
                *("<", ">", "start_of_text", "END_OF_TEXT", "&lt;", "&gt;", "&amp;", " ", "'", "s"),
                *("ſ", "'re", "é", "\u0301", "狗", "🐶", "1", "_", "\0", "\u200d"),
                *("x" * 47, "x" * 48),
            ]
        )
    ).map("".join)
)
def test_texts_of_special_parts(text):
    check("lower", text)


def test_every_character_of_unicode():
    """Letters, digits and spaces come from the same tables."""
    own, ours = PAIRS["lower"]
    characters = [chr(code) for code in range(sys.maxunicode + 1)]
    random.Random(0).shuffle(characters)
    for at in range(0, 60_000, 20):
        text = "a".join(characters[at : at + 20])
        assert tokens(ours, text) == tokens(own, text)


def test_many_at_once():
    own, ours = PAIRS["lower"]
    texts = [text for text in ODD if "\ud800" not in text]
    assert np.array_equal(ours(texts), own(texts))
    assert ours(texts).dtype == np.int64


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"reduction_mask": "simple"}, "leaves out words of long texts"),
        ({"clean": str.upper}, "cleaning of texts"),
        ({"pattern": "."}, "differs from OpenCLIP's own"),
    ],
)
def test_tokenizers_that_cannot_be_stored_are_refused(change, reason):
    import regex

    mask = change.get("reduction_mask", "")
    tokenizer = open_clip.tokenizer.SimpleTokenizer(reduction_mask=mask)
    tokenizer.clean_fn = change.get("clean", tokenizer.clean_fn)
    if "pattern" in change:
        tokenizer.pat = regex.compile(change["pattern"])
    with pytest.raises(EncoderUnavailable, match=reason):
        pack_tokenizer(_safe(tokenizer))


def test_hugging_face_tokenizers(tmp_path):
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

    inner = Tokenizer(models.BPE(unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    inner.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(
            vocab_size=800,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    inner.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, sep_token="</s>", **names)
    fast.save_pretrained(tmp_path)
    for options in ({}, {"strip_sep_token": True, "clean": "canonicalize"}):
        own = _safe(open_clip.tokenizer.HFTokenizer(str(tmp_path), context_length=16, **options))
        facts, data = pack_tokenizer(own)
        ours = read_tokenizer(json.loads(json.dumps(facts)), data)
        for text in (*TEXTS, "dog </s> <PAD>", "&lt;s&gt;"):
            assert tokens(ours, text) == tokens(own, text)
