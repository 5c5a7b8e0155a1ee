"""Where the texts and where the pictures lie in a model's space, so that the two can be mixed.

CLIP puts texts into one corner of its space and pictures into another (the modality gap; GR-CLIP,
arXiv 2507.19054), and the scores of texts spread less over a collection than those of pictures
do. A plain sum mostly follows the pictures. With its side's mean subtracted, and its side's
spread brought to that of the pictures, a text counts as much as a picture does.
`tests/benchmarks/mixing.py` measures what that gains.
"""

import threading
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from ..common.arrays import Vectors
from ..models.encoding import Heed, TextEncoder

# A sample of what people search for, by which a model's texts are known: single words, phrases
# and captions, of people, animals, food, places, weather, things, deeds, and kinds of picture.
# Changing one changes every mix of text and picture a little.
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

# Where vectors do not differ by more than rounding, there is no direction left to mix.
_NO_SPREAD = 1e-5

_texts: WeakKeyDictionary[TextEncoder, Vectors] = WeakKeyDictionary()
_keeping = threading.Lock()


class Sides(NamedTuple):
    """The means, (d,) float32, of a model's pictures and texts.

    `scale` is how many times further the scores of pictures spread over the collection than those
    of texts.
    """

    pictures: Vectors
    texts: Vectors
    scale: float

    def is_text(self, vector: Vectors) -> bool:
        """Tells whether a (d,) unit vector lies nearer to the texts than to the pictures."""
        to_texts = np.linalg.norm(vector - self.texts)
        return bool(to_texts < np.linalg.norm(vector - self.pictures))

    def centred(self, vector: Vectors, is_text: bool) -> Vectors:
        """Returns a (d,) unit vector without its side's mean, at the pictures' spread."""
        return (vector - self.texts) * self.scale if is_text else vector - self.pictures


def sides_of(pictures: tuple[Vectors, Vectors], texts: Vectors) -> Sides | None:
    """Returns both sides of a model, by the mean and covariance of its pictures.

    The other side are everyday texts, (n, d) float32. None is for pictures, or texts, that are all
    alike.
    """
    mean, covariance = pictures
    others = texts - texts.mean(axis=0)
    # The root of the mean variance over the collection of the scores for a picture, or a text.
    of_pictures = float(np.linalg.norm(covariance))
    of_texts = float(np.sqrt(np.mean(np.sum(others @ covariance * others, axis=1))))
    if min(of_pictures, of_texts) < _NO_SPREAD:
        return None
    return Sides(mean, texts.mean(axis=0), of_pictures / of_texts)


def everyday_vectors(encoder: TextEncoder, heed: Heed | None = None) -> Vectors:
    """Returns the unit vectors, (n, d) float32, of EVERYDAY_TEXTS, made once per encoder.

    `heed` may be called while that takes long, and may raise to end it.
    """
    vectors = _texts.get(encoder)
    if vectors is None:
        # Two threads may both make them. With a lock, one database's tower keeps others waiting.
        vectors = encoder.encode_texts(EVERYDAY_TEXTS, heed)
        with _keeping:
            _texts[encoder] = vectors
    return vectors
