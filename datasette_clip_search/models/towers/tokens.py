"""Texts to tokens without torch and OpenCLIP, with a copy of the model's own tokenizer."""

import re
import zlib
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...common.config import CONFIG
from ..text_cleaning import Clean, find_cleaning, make_safe
from .library_tokenizer import check_library_tokenizer, panics_are_errors

Tokens = NDArray[np.int64]

# OpenCLIP's own tokenizer has 49,000 merges in half a megabyte, Gemma's 34 MB of JSON.
_MOST_BYTES = {"open_clip": 2_000_000, "tokenizers": 48_000_000}
# Some models have a special token for each of hundreds of languages.
_MOST_SPECIAL, _LONGEST_SPECIAL = 1024, 100
# OpenCLIP's pattern: contractions, runs of letters, single digits, runs of anything else.
WORDS = r"""|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""


class Tokenizer(Protocol):
    """Turn n texts into tokens, (n, context length) int64."""

    def __call__(self, texts: Sequence[str]) -> Tokens: ...


def read_tokenizer(facts: dict[str, Any], data: bytes) -> Tokenizer:
    """Return the tokenizer of a tower, from its facts in the manifest and its section.

    Raises KeyError, ValueError or zlib.error for data that is not a tokenizer, and ImportError for
    a missing library.
    """
    kind, special, length = facts["kind"], facts["special"], facts["context_length"]
    if kind not in _MOST_BYTES:
        raise ValueError(f"a tokenizer of kind {kind!r:.40}")
    if type(length) is not int or not 2 <= length <= CONFIG.max_tower_tokens:
        raise ValueError("context_length")
    if not isinstance(special, list) or len(special) > _MOST_SPECIAL:
        raise ValueError("special")
    if not all(isinstance(token, str) and len(token) <= _LONGEST_SPECIAL for token in special):
        raise ValueError("special")
    clean = make_safe(find_cleaning(facts["clean"]), special)
    text = decompress(data, _MOST_BYTES[kind]).decode()
    if kind == "open_clip":
        return BytePairs(text, special, clean, length)
    check_library_tokenizer(text)
    return LibraryTokenizer(text, clean, length, facts["pad"], facts["zeroed"])


def decompress(data: bytes, most: int) -> bytes:
    """Return data, decompressed.

    Raises ValueError for more than `most` bytes, and zlib.error.
    """
    decompressor = zlib.decompressobj()
    whole = decompressor.decompress(data, most)
    if not decompressor.eof or decompressor.unused_data:
        raise ValueError(f"compressed data of more than {most} bytes, or broken")
    return whole


class BytePairs:
    """OpenCLIP's own tokenizer: byte-pair encoding.

    It follows Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units", 2016,
    on bytes as GPT-2 does, with the end of a word as part of its last symbol.
    """

    def __init__(self, text: str, special: Sequence[str], clean: Clean, context_length: int):
        """Take some lines: 256 bytes in hex, the letters for them, then one merge a line."""
        import regex

        numbers, letters, *merges = text.split("\n")
        pieces = [*letters, *(f"{letter}</w>" for letter in letters)]
        pieces += [merge.replace(" ", "") for merge in merges]
        self._letters = dict(zip(bytes.fromhex(numbers), letters, strict=True))
        self._ranks = {merge: rank for rank, merge in enumerate(merges)}
        self.ids = {piece: number for number, piece in enumerate([*pieces, *special])}
        self._start, self._end = (self.ids[token] for token in special[:2])
        self._special = set(special)
        # OpenCLIP escapes nothing, but a special token from a database must not act as a pattern.
        self.words = "|".join(map(re.escape, special)) + WORDS
        self._find_words = regex.compile(self.words, regex.IGNORECASE).findall
        self._clean, self._length = clean, context_length

    def __call__(self, texts: Sequence[str]) -> Tokens:
        tokens = np.zeros((len(texts), self._length), np.int64)
        for row, text in zip(tokens, texts, strict=True):
            ids = [self._start, *self._encode(text)][: self._length - 1]
            row[: len(ids) + 1] = [*ids, self._end]
        return tokens

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = []
        for word in self._find_words(self._clean(text)):
            # Later tokens are cut off anyway.
            if len(ids) >= self._length:
                break
            letters = "".join(self._letters[byte] for byte in word.encode())
            ids += (self.ids[piece] for piece in self._pieces(letters))
        return ids

    def _pieces(self, word: str) -> list[str]:
        if word in self._special:
            return [word]
        pieces = [*word[:-1], f"{word[-1]}</w>"]
        while len(pieces) > 1:
            pairs = [f"{a} {b}" for a, b in pairwise(pieces)]
            best = min(pairs, key=lambda pair: self._ranks.get(pair, len(self._ranks)))
            if best not in self._ranks:
                break
            merged: list[str] = []
            place = 0
            while place < len(pieces):
                if place < len(pairs) and pairs[place] == best:
                    merged.append(pieces[place] + pieces[place + 1])
                    place += 2
                else:
                    merged.append(pieces[place])
                    place += 1
            pieces = merged
        return pieces


class LibraryTokenizer:
    """A tokenizer of Hugging Face's library tokenizers, from its JSON."""

    def __init__(
        self, text: str, clean: Clean, context_length: int, pad: Sequence[Any], zeroed: int | None
    ):
        """Take the padding's id, name, type and side. The token `zeroed` is replaced by 0."""
        from tokenizers import Tokenizer as Library

        number, token, kind, side = pad
        with panics_are_errors():
            self._library = Library.from_str(text)
        self._library.enable_truncation(context_length)
        self._library.enable_padding(
            direction=side, pad_id=number, pad_type_id=kind, pad_token=token, length=context_length
        )
        self._clean, self._zeroed, self._length = clean, zeroed, context_length

    def __call__(self, texts: Sequence[str]) -> Tokens:
        with panics_are_errors():
            encoded = self._library.encode_batch([self._clean(text) for text in texts])
        tokens = np.array([each.ids for each in encoded], np.int64)
        if tokens.shape != (len(texts), self._length):
            raise ValueError("texts of different lengths")
        return tokens if self._zeroed is None else np.where(tokens == self._zeroed, 0, tokens)
