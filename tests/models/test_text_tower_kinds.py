"""Text towers of every kind that OpenCLIP has: their vectors are torch's."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from support.commands import run
from support.models import TINY_CONFIG
from support.paths import DEMO_PICTURES
from support.towers import open_text_tower, text_line, torch_encoder

pytest.importorskip("open_clip")

FLICKR = Path(os.environ.get("CLIP_SEARCH_TESTDATA", "/nowhere")) / "models" / "flickr-lit"

TEXT = {"context_length": 24, "vocab_size": 49408, "width": 48, "heads": 4, "layers": 2}
COCA = {"context_length": 24, "vocab_size": 49408, "width": 48, "heads": 4, "layers": 1}


@pytest.mark.parametrize(
    ("text", "others", "cut"),
    [
        ({}, {"quick_gelu": True}, True),
        ({"ls_init_value": 0.1, "act_kwargs": {"approximate": "tanh"}}, {}, True),
        ({"pool_type": "eos", "eos_id": 49407, "proj_bias": True}, {}, True),
        # As in SigLIP, each token sees all others, and padding counts.
        (
            {
                "no_causal_mask": True,
                "pool_type": "last",
                "tokenizer_kwargs": {"clean": "canonicalize"},
            },
            {"custom_text": True},
            False,
        ),
        ({"pool_type": "last"}, {}, False),
        # Blocks of another kind, which torch has to export.
        ({"qk_norm": True}, {}, False),
        (
            {"embed_cls": True, "output_tokens": True},
            {"custom_text": True, "multimodal_cfg": COCA},
            False,
        ),
    ],
    ids=["quick", "tanh", "eos", "siglip", "last", "custom", "coca"],
)
def test_kinds_of_towers(tmp_path, text, others, cut):
    import open_clip
    import torch
    from safetensors.torch import save_file

    from datasette_clip_search.models.towers.making.make_text import make_text_tower
    from datasette_clip_search.models.towers.text import TextTower

    settings = {**TINY_CONFIG, "embed_dim": 32, "text_cfg": {**TEXT, **text}, **others}
    if "multimodal_cfg" in others:
        pooled = {"attentional_pool": True, "attn_pooler_heads": 4, "output_tokens": True}
        settings["vision_cfg"] = {**TINY_CONFIG["vision_cfg"], **pooled}
    config = {"model_cfg": settings, "preprocess_cfg": {}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    model = open_clip.create_model(f"local-dir:{tmp_path}", load_weights=False)
    with torch.no_grad():
        # Parameters that begin as 0 or 1 could be left out unnoticed.
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter += torch.randn_like(parameter) / 10
    save_file(model.state_dict(), tmp_path / "open_clip_model.safetensors")
    encoder = torch_encoder(tmp_path)
    made = make_text_tower(encoder, np.empty((0, 32), np.float32), "32-bit")
    assert made.stored.facts["cut"] is cut
    tower = TextTower(made.stored)
    texts = ["a", "no dog! on_the beach", "long " * 50, "&lt;end_of_text&gt; café"]
    expected = encoder.encode_texts(texts)
    assert np.allclose(tower.encode_texts(texts), expected, atol=1e-5)
    singly = np.concatenate([tower.encode_texts([text]) for text in texts])
    assert np.allclose(singly, expected, atol=1e-5)
    assert tower.logit_scale == pytest.approx(encoder.logit_scale)


def test_text_towers_of_hugging_face(tmp_path, pictures, connect):
    """Their tokenizer is stored whole, and padding is not read as text."""
    transformers = pytest.importorskip("transformers")
    import open_clip
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

    folder, database = tmp_path / "model", tmp_path / "photos.db"
    inner = Tokenizer(models.BPE(unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel()
    names = ["<s>", "<pad>", "</s>", "<unk>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=800, special_tokens=names, initial_alphabet=alphabet)
    inner.train_from_iterator(["a dog on the beach", "two people"], trainer)
    inner.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="<pad>",
        unk_token="<unk>", sep_token="</s>",
    ).save_pretrained(folder)  # fmt: skip
    sizes = {"hidden_size": 48, "intermediate_size": 96, "max_position_embeddings": 66}
    layers = {"num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.RobertaConfig(vocab_size=800, pad_token_id=1, **sizes, **layers)
    config.save_pretrained(folder)
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    text = {
        "hf_model_name": str(folder),
        "hf_tokenizer_name": str(folder),
        "hf_pooler_type": "mean_pooler",
        "context_length": 24,
    }
    settings = {**TINY_CONFIG, "custom_text": True, "text_cfg": text}
    whole = {"model_cfg": settings, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(whole))
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    line = text_line(run("embed-images", database, pictures, "--pretrained", folder))
    assert "needs the package tokenizers" in line
    texts = ["a dog", "two people on a beach", "long " * 50, "</s> dog"]
    tower = open_text_tower(connect(database))
    assert tower.key != torch_encoder(folder).key
    cosines = (tower.encode_texts(texts) * torch_encoder(folder).encode_texts(texts)).sum(axis=1)
    assert cosines.min() > 0.995


def test_vectors_do_not_depend_on_others(demo_database, demo, connect):
    """That holds for a text of one token, and for one that is cut off."""
    run("embed-images", demo, DEMO_PICTURES, "--text-tower", "8-bit")
    texts = ["", "a", "a dog on the beach", "dog " * 100]
    for database in (demo_database, demo):
        tower = open_text_tower(connect(database))
        together = tower.encode_texts(texts)
        singly = np.concatenate([tower.encode_texts([text]) for text in texts])
        assert np.allclose(together, singly, atol=1e-6)


@pytest.mark.skipif(not FLICKR.is_dir(), reason="CLIP_SEARCH_TESTDATA names no folder with models/")
def test_a_model_that_understands_photographs():
    """It has two layers, a narrower perceptron, and 77 tokens."""
    from datasette_clip_search.models.towers.making.make_text import make_text_tower
    from datasette_clip_search.models.towers.text import TextTower

    encoder = torch_encoder(FLICKR)
    made = make_text_tower(encoder, np.empty((0, 256), np.float32))
    assert made.precision == "8-bit"
    assert made.cosine > 0.999
    texts = ["a dog runs through snow", "two men play football", "a"]
    cosines = (TextTower(made.stored).encode_texts(texts) * encoder.encode_texts(texts)).sum(axis=1)
    assert cosines.min() > 0.999
