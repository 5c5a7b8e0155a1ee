"""A text tower at work: words to unit vectors by ONNX Runtime, without torch."""

from collections.abc import Sequence

import numpy as np

from ...common.arrays import Vectors
from ...common.stopping import Stopped, Stopping
from ..onnx_file.graph_model import INT64, Declared
from ..onnx_file.session import Heed, Session, never_stop
from .border import broken, example_of, logit_scale_of, unit_vectors
from .stored import TEXT, StoredTower, TowerUnusable, damaged, unfit
from .tokens import Tokens, read_tokenizer

INPUT, OUTPUT = "tokens", "features"
# Texts that are split into tokens together, so that memory stays bounded.
_BATCH = 32
# The least cosine to torch's vector of a text, where the tower wakes; other processors round
# otherwise, and one that multiplies wrongly is far off.
_AWAKE = 0.99


class TextTower:
    """A text tower that was kept in a database, for any number of threads at once."""

    def __init__(self, kept: StoredTower, stopping: Stopping | None = None):
        """Loads a tower with its tokenizer, and has it encode the text it was kept with.

        `stopping` ends that.

        Raises TowerUnusable for one that does not load, or makes another vector of that text, and
        Stopped.
        """
        facts = kept.facts
        self.key = kept.key
        try:
            self.dimension = int(facts["dimension"])
            self.logit_scale = logit_scale_of(facts)
            self._cut = facts["cut"] is True
            self._tokenize = read_tokenizer(facts["tokenizer"], kept.sections["tokenizer"])
            length = facts["tokenizer"]["context_length"]
            self._session = Session(
                kept.sections["onnx"],
                Declared(INPUT, INT64, (None, length)),
                (OUTPUT, self.dimension),
                stopping=stopping,
            )
            text, vector = example_of(kept.sections["example"], self.dimension)
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
            # ONNX Runtime, zlib, json and the tokenizer have an exception each for what is broken.
            raise unfit(TEXT, error) from error
        if not cosine >= _AWAKE:
            raise TowerUnusable(
                f"Its text tower makes other vectors on this processor than it should (cosine "
                f"{cosine:.4f}, expected at least {_AWAKE}). Keep one of another precision: "
                "sqlite-utils embed-images with --text-tower 16-bit"
            )

    def encode_texts(self, texts: Sequence[str], heed: Heed | None = None) -> Vectors:
        """Returns the unit vectors, (n, dimension) float32, of n texts.

        `heed` is called again and again where that takes long, and may raise to end it.

        Raises TowerUnusable for a text that the tower breaks at.
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
            # A vocabulary that lacks a piece, or what the library tokenizers finds.
            raise damaged(TEXT, "can't split a text into tokens") from error
        if self._cut:
            tokens = tokens[:, : _longest(tokens)]
        with broken(TEXT):
            return unit_vectors(self._session.run(np.ascontiguousarray(tokens), heed))


def _longest(tokens: Tokens) -> int:
    """Returns how many columns the longest text has, without what fills it up: zeros."""
    used = np.flatnonzero(tokens.any(axis=0))
    return int(used[-1]) + 1 if len(used) else 1
