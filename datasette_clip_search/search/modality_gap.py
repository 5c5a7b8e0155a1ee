"""Correct the modality gap between texts and pictures, so that the two can be mixed.

CLIP places texts in one region of its space and pictures in another (the modality gap; GR-CLIP,
arXiv 2507.19054). Over a database, the scores of texts also vary less than those of pictures. So a
plain sum mostly follows the pictures. If the mean of its side is subtracted, and its spread is
scaled to that of the pictures, a text counts as much as a picture.
`tests/benchmarks/mixing.py` measures the gain.
"""

import threading
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from ..common.arrays import Vectors
from ..models.encoding import Heed, TextEncoder

# A sample of searches, whose mean stands for the texts of a model: single words, phrases and
# captions about people, animals, food, places, weather, things, actions and kinds of picture.
# A change of one text changes every mix of text and picture a little.
EVERYDAY_TEXTS = (
    "a dog",
    "cat",
    "birds in a tree",
    "a bee on a flower",
    "people",
    "a child playing",
    "two women talking",
    "an old man with a hat",
    "my family at the table",
    "a wedding",
    "birthday cake",
    "food on a plate",
    "a cup of coffee",
    "fruit and vegetables",
    "a house with a garden",
    "kitchen",
    "a chair by the window",
    "city street at night",
    "a bridge over a river",
    "an old church",
    "a red car",
    "bicycle",
    "a train at the station",
    "boats in the harbour",
    "mountains",
    "a lake in the forest",
    "waves on the beach",
    "snow",
    "a football match",
    "someone running",
    "a black and white photo",
    "a page of text",
)

# A smaller spread is a rounding error of equal vectors, which leaves no direction to mix.
_NO_SPREAD = 1e-5

_texts: WeakKeyDictionary[TextEncoder, Vectors] = WeakKeyDictionary()
_keeping = threading.Lock()


class Sides(NamedTuple):
    """The means, (d,) float32, of a model's pictures and texts.

    `scale` is the spread of the scores of pictures divided by that of texts.
    """

    pictures: Vectors
    texts: Vectors
    scale: float

    def is_text(self, vector: Vectors) -> bool:
        """Tell whether a (d,) unit vector is nearer to the texts than to the pictures."""
        to_texts = np.linalg.norm(vector - self.texts)
        return bool(to_texts < np.linalg.norm(vector - self.pictures))

    def centred(self, vector: Vectors, is_text: bool) -> Vectors:
        """Return a (d,) unit vector minus the mean of its side, at the spread of the pictures."""
        return (vector - self.texts) * self.scale if is_text else vector - self.pictures


def sides_of(pictures: tuple[Vectors, Vectors], texts: Vectors) -> Sides | None:
    """Return the two sides of a model, from the mean and covariance of its pictures.

    `texts` are vectors of everyday texts, (n, d) float32. Return None if all pictures, or all
    texts, are equal.
    """
    mean, covariance = pictures
    others = texts - texts.mean(axis=0)
    # The root mean square, over queries, of the standard deviation of their scores.
    of_pictures = float(np.linalg.norm(covariance))
    of_texts = float(np.sqrt(np.mean(np.sum(others @ covariance * others, axis=1))))
    if min(of_pictures, of_texts) < _NO_SPREAD:
        return None
    return Sides(mean, texts.mean(axis=0), of_pictures / of_texts)


def everyday_vectors(encoder: TextEncoder, heed: Heed | None = None) -> Vectors:
    """Return the unit vectors, (n, d) float32, of EVERYDAY_TEXTS, made once per encoder.

    `heed` is called now and then, and may raise to end the work.
    """
    vectors = _texts.get(encoder)
    if vectors is None:
        # Two threads may both make them. A lock would let one database make others wait.
        vectors = encoder.encode_texts(EVERYDAY_TEXTS, heed)
        with _keeping:
            _texts[encoder] = vectors
    return vectors
