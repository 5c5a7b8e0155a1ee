"""An image tower at work: pictures to unit vectors by ONNX Runtime, without torch."""

import numpy as np

from ...common.arrays import Pixels, Vectors
from ...common.stopping import Stopped, Stopping
from ...pictures.preprocess import Preprocess
from ..onnx_file.graph_model import FLOAT, Declared
from ..onnx_file.session import Heed, Session, nothing
from ..torch_model import normalized
from .border import broken, unit_vectors
from .stored import IMAGE, Kept, TowerUnusable, unfit

INPUT, OUTPUT = "pixels", "features"
_BITS = {"8-bit": "8bit", "16-bit": "16bit", "32-bit": "32bit"}
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

    def __init__(self, kept: Kept, stopping: Stopping | None = None):
        """Loads a tower, and has it encode the picture it was kept with.

        `stopping` ends that.

        Raises TowerUnusable for one that does not load, or makes another vector of that picture,
        and Stopped.
        """
        facts = kept.facts
        self.key = kept.key
        try:
            self.preprocess = Preprocess.from_identity(facts["preprocess"])
            self.dimension = int(facts["dimension"])
            self.fingerprint = str(facts["fingerprint"])
            self.precision = f"onnx-{_BITS[facts['precision']]}"
            self._session = Session(
                kept.sections["onnx"],
                given(self.preprocess),
                (OUTPUT, self.dimension),
                stopping=stopping,
            )
            shape = 1, self.preprocess.height, self.preprocess.width, 3
            pixels = np.frombuffer(kept.sections["picture"], np.uint8).reshape(shape)
            [vector] = self.encode_pixels(pixels, stopping.heed if stopping else nothing)
            cosine = float(vector @ np.frombuffer(kept.sections["vector"], "<f4"))
        except (Stopped, TowerUnusable):
            raise
        except Exception as error:
            if stopping and stopping.is_set:
                raise Stopped from error
            # ONNX Runtime has an exception each for what is broken.
            raise unfit(IMAGE, error) from error
        if not cosine >= _AWAKE:
            raise TowerUnusable(
                f"Its image tower makes other vectors on this processor than it should (cosine "
                f"{cosine:.4f}, expected at least {_AWAKE}). Keep one of another precision: "
                "sqlite-utils embed-images with --image-tower 32-bit"
            )

    def encode_pixels(self, pixels: Pixels, heed: Heed | None = None) -> Vectors:
        """Returns the unit vectors, (n, dimension) float32, of (n, height, width, 3) uint8.

        `heed` is called again and again where that takes long, and may raise to end it.

        Raises TowerUnusable for pictures that the tower breaks at.
        """
        with broken(IMAGE):
            return unit_vectors(self._session.run(normalized(self.preprocess, pixels), heed))


def given(preprocess: Preprocess) -> Declared:
    """Returns what an image tower takes: pictures as `normalized` makes them."""
    return Declared(INPUT, FLOAT, (None, 3, preprocess.height, preprocess.width))
