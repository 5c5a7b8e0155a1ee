"""Tokenizers of Hugging Face's library: no pattern from a database runs, and nothing panics."""

import json
import subprocess
from pathlib import Path

import pytest

import datasette_clip_search
from datasette_clip_search.models.towers.library_tokenizer import (
    check_library_tokenizer,
    panics_are_errors,
)

WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def written(pattern: object, vocabulary: dict[str, int]) -> str:
    """Return the JSON of a tokenizer, as the library writes it."""
    split = {"type": "Split", "pattern": pattern, "behavior": "Removed", "invert": True}
    steps = {"type": "Sequence", "pretokenizers": [split, {"type": "ByteLevel"}]}
    tokenizer = {"pre_tokenizer": steps, "model": {"type": "BPE", "vocab": vocabulary}}
    return json.dumps(tokenizer, ensure_ascii=False)


@pytest.mark.parametrize(
    "text",
    [
        written({"Regex": WORDS}, {"a": 1}),
        written({"String": "(a+)+b"}, {"a": 1}),
        # A word of a vocabulary is no pattern.
        written({"Regex": WORDS}, {"Regex": 1, '"Regex"': 2, "\\u0052": 3, "\\": 4, "\x1b": 5}),
    ],
)
def test_known_patterns_pass(text):
    check_library_tokenizer(text)


@pytest.mark.parametrize(
    "text",
    [
        written({"Regex": "(?:(?:a+)+)+b"}, {}),
        written({"Regex": WORDS + "|(a+)+b"}, {}),
        written({"Regex": "(a+)+b"}, {}).replace('"Regex": ', '"Regex"\n\t:  '),
        written({"Regex": "(a+)+b"}, {}).replace("Regex", r"\u0052egex"),
        written({"Regex": "(a+)+b"}, {}).replace("Regex", r"R\u0065gex"),
        written({"Regex": "\\\\ (a+)+b"}, {}),
    ],
)
def test_unknown_patterns_are_refused(text):
    with pytest.raises(ValueError, match=r"pattern|escaped"):
        check_library_tokenizer(text)


def test_panics_of_rust_are_errors():
    class PanicException(BaseException):
        "As the library raises it, which `except Exception` misses"

    with pytest.raises(ValueError, match="tokenizers"), panics_are_errors():
        raise PanicException
    with pytest.raises(KeyboardInterrupt), panics_are_errors():
        raise KeyboardInterrupt


def test_sessions_are_made_in_one_place():
    """There, all files are checked, and ONNX Runtime has no folder to look for data in."""
    folder = Path(datasette_clip_search.__file__).parent
    command = ["grep", "-rlE", "InferenceSession\\(|zlib.decompress\\(", folder, "--include=*.py"]
    found = subprocess.run(list(map(str, command)), capture_output=True, text=True).stdout
    assert [Path(file).name for file in found.split()] == ["session.py"]
