"""A text tower at work: texts to unit vectors with ONNX Runtime, without torch."""

from collections.abc import Sequence

import numpy as np

from ...common.arrays import Vectors
from ...common.stopping import Stopped, Stopping
from ..encoding import Heed
from ..onnx_file.graph_model import INT64, Declared
from ..onnx_file.session import Session, never_stop
from .border import (
    check_self_test,
    read_example,
    read_logit_scale,
    reporting_failures,
    unit_vectors,
)
from .stored import TEXT, StoredTower, TowerUnusable, damaged_error, loading_error
from .tokens import Tokens, read_tokenizer

INPUT, OUTPUT = "tokens", "features"
# The most texts that are split into tokens together, which bounds memory.
_BATCH = 32


class TextTower:
    """A text tower from a database, for any number of threads at once."""

    def __init__(self, stored: StoredTower, stopping: Stopping | None = None):
        """Load a tower with its tokenizer, and run its self-test: the vector of a stored text.

        `stopping` ends that.

        Raises TowerUnusable for a tower that does not load or fails the test, and Stopped.
        """
        facts = stored.facts
        self.key = stored.key
        try:
            self.dimension = int(facts["dimension"])
            self.logit_scale = read_logit_scale(facts)
            self._cut = facts["cut"] is True
            self._tokenize = read_tokenizer(facts["tokenizer"], stored.sections["tokenizer"])
            length = facts["tokenizer"]["context_length"]
            self._session = Session(
                stored.sections["onnx"],
                Declared(INPUT, INT64, (None, length)),
                (OUTPUT, self.dimension),
                stopping=stopping,
            )
            text, vector = read_example(stored.sections["example"], self.dimension)
            heed = stopping.heed if stopping else never_stop
            cosine = float(self.encode_texts([text], heed)[0] @ vector)
        except (Stopped, TowerUnusable):
            raise
        except ModuleNotFoundError as error:
            raise TowerUnusable(
                f"Its text tower needs {error.name}, which is not installed. "
                f"Run: pip install {error.name}"
            ) from error
        except Exception as error:
            if stopping and stopping.is_set:
                raise Stopped from error
            # ONNX Runtime, zlib, json and the tokenizer have an exception each for broken data.
            raise loading_error(TEXT, error) from error
        check_self_test(TEXT, cosine)

    def encode_texts(self, texts: Sequence[str], heed: Heed | None = None) -> Vectors:
        """Return the unit vectors (n, dimension), float32, of n texts.

        Long work calls `heed` repeatedly, which may raise to end it.

        Raises TowerUnusable for a text that the tower fails on.
        """
        batches = []
        for at in range(0, len(texts), _BATCH):
            if at and heed:
                heed()
            batches.append(self._encode(texts[at : at + _BATCH], heed))
        return np.concatenate(batches) if len(batches) > 1 else batches[0]

    def _encode(self, texts: Sequence[str], heed: Heed | None) -> Vectors:
        try:
            tokens = self._tokenize(texts)
        except Exception as error:
            # A vocabulary that lacks a piece, or an error of the library tokenizers.
            raise damaged_error(TEXT, "can't split a text into tokens") from error
        if self._cut:
            tokens = tokens[:, : _longest(tokens)]
        with reporting_failures(TEXT):
            return unit_vectors(self._session.run(np.ascontiguousarray(tokens), heed))


def _longest(tokens: Tokens) -> int:
    """Return the number of columns of the longest text, without its padding of zeros."""
    used = np.flatnonzero(tokens.any(axis=0))
    return int(used[-1]) + 1 if len(used) else 1
