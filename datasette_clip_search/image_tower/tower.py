"""An image tower at work: pictures to unit vectors by ONNX Runtime, without torch."""

import numpy as np

from ..arrays import Pixels, Vectors
from ..encoder import normalized, unit
from ..pictures.preprocess import Preprocess
from ..text_tower.stored import IMAGE, Kept, TowerUnusable, damaged
from ..text_tower.tower import session_of

# The least cosine to torch's vector of a picture, where the tower wakes.
_AWAKE = 0.99


class ImageTower:
    """An image tower that was kept in a database, for any number of threads at once.

    It embeds as an Encoder does, on the CPU; `precision` is what its vectors are noted to be in.
    """

    device = "cpu"
    # None of torch's settings matter.
    matmul = None
    label = "The image tower"

    def __init__(self, kept: Kept):
        """Loads a tower, and has it encode the picture it was kept with.

        Raises TowerUnusable for one that does not load, or makes another vector of that picture.
        """
        facts = kept.facts
        self.key = kept.key
        try:
            self.preprocess = Preprocess.from_identity(facts["preprocess"])
            self.dimension = int(facts["dimension"])
            self.fingerprint = str(facts["fingerprint"])
            self.precision = f"onnx-{facts['precision'].replace('-', '')}"
            self._session = session_of(kept.sections["onnx"])
            shape = 1, self.preprocess.height, self.preprocess.width, 3
            pixels = np.frombuffer(kept.sections["picture"], np.uint8).reshape(shape)
            [vector] = self.encode_pixels(pixels)
            cosine = float(vector @ np.frombuffer(kept.sections["vector"], "<f4"))
        except Exception as error:
            # ONNX Runtime has an exception each for what is broken.
            raise damaged(IMAGE, f"does not load ({type(error).__name__})") from error
        if not cosine >= _AWAKE:
            raise TowerUnusable(
                f"Its image tower makes other vectors on this processor than it should (cosine "
                f"{cosine:.4f}, expected at least {_AWAKE}). Keep one of another precision: "
                "sqlite-utils embed-images with --image-tower 32-bit"
            )

    def encode_pixels(self, pixels: Pixels) -> Vectors:
        """Returns the unit vectors, (n, dimension) float32, of (n, height, width, 3) uint8."""
        features: Vectors = self._session.run(
            None, {"pixels": normalized(self.preprocess, pixels)}
        )[0]
        return unit(features)
