"""A text tower at work: words to unit vectors by ONNX Runtime, without torch."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arrays import Vectors
from ..encoder import unit
from .stored import TEXT, Kept, TowerUnusable, damaged
from .tokens import Tokens, read_tokenizer

# Texts that go through together, so that memory stays bounded.
_BATCH = 32
# The least cosine to torch's vector of a text, where the tower wakes; other processors round
# otherwise, and one that multiplies wrongly is far off.
_AWAKE = 0.99


class TextTower:
    """A text tower that was kept in a database, for any number of threads at once."""

    def __init__(self, kept: Kept):
        """Loads a tower with its tokenizer, and has it encode the text it was kept with.

        Raises TowerUnusable for one that does not load, or makes another vector of that text.
        """
        facts = kept.facts
        self.key = kept.key
        try:
            self.logit_scale = float(facts["logit_scale"])
            self._cut = bool(facts["cut"])
            self._tokenize = read_tokenizer(facts["tokenizer"], kept.sections["tokenizer"])
            self._session = session_of(kept.sections["onnx"])
            example = json.loads(kept.sections["example"])
            cosine = float(self.encode_texts([example["text"]])[0] @ np.array(example["vector"]))
        except ModuleNotFoundError as error:
            raise TowerUnusable(
                f"Its text tower needs {error.name}, which is not installed. "
                f"Run: pip install {error.name}"
            ) from error
        except Exception as error:
            # ONNX Runtime, zlib, json and the tokenizer have an exception each for what is broken.
            raise damaged(TEXT, f"does not load ({type(error).__name__})") from error
        if not cosine >= _AWAKE:
            raise TowerUnusable(
                f"Its text tower makes other vectors on this processor than it should (cosine "
                f"{cosine:.4f}, expected at least {_AWAKE}). Keep one of another precision: "
                "sqlite-utils embed-images with --text-tower 16-bit"
            )

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """Returns the unit vectors, (n, dimension) float32, of n texts."""
        batches = [self._encode(texts[at : at + _BATCH]) for at in range(0, len(texts), _BATCH)]
        return unit(np.concatenate(batches))

    def _encode(self, texts: Sequence[str]) -> Vectors:
        tokens = self._tokenize(texts)
        if self._cut:
            tokens = tokens[:, : _longest(tokens)]
        features: Vectors = self._session.run(None, {"tokens": np.ascontiguousarray(tokens)})[0]
        return features


def _longest(tokens: Tokens) -> int:
    """Returns how many columns the longest text has, without what fills it up: zeros."""
    used = np.flatnonzero(tokens.any(axis=0))
    return int(used[-1]) + 1 if len(used) else 1


def session_of(model: bytes) -> Any:
    """Loads an ONNX file for threads that take one core each."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Queries come from many threads at once, and each wants one core.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # An arena keeps the memory of the longest text for ever, and saves nothing here.
    options.enable_cpu_mem_arena = False
    # Errors only; warnings would go to stderr.
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    # What it was made from, which it keeps for other providers to try.
    session._model_bytes = None
    return session
