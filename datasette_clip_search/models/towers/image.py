"""An image tower at work: pictures to unit vectors with ONNX Runtime, without torch."""

from collections.abc import Callable

import numpy as np

from ...common.arrays import Pixels, Vectors
from ...common.stopping import Stopped, Stopping
from ...pictures.preprocess import Preprocess
from ..encoding import Heed, normalized
from ..onnx_file.graph_model import FLOAT, Declared
from ..onnx_file.session import Session, never_stop
from .border import check_self_test, reporting_failures, unit_vectors
from .stored import IMAGE, StoredTower, TowerUnusable, loading_error

INPUT, OUTPUT = "pixels", "features"
_BITS = {"8-bit": "8bit", "16-bit": "16bit", "32-bit": "32bit"}


class StoredPictureEncoder:
    """An image tower from a database, of either kind: it embeds on the CPU, without torch.

    `precision` is recorded with its vectors.
    """

    device = "cpu"
    # No setting of torch matters.
    matmul = None
    label: str
    kind: str
    precision: str
    _run: Callable[[Vectors, Heed | None], Vectors]

    def __init__(self, stored: StoredTower):
        facts = stored.facts
        self.key = stored.key
        self.preprocess = Preprocess.from_identity(facts["preprocess"])
        self.dimension = int(facts["dimension"])
        self.fingerprint = str(facts["fingerprint"])

    def encode_pixels(self, pixels: Pixels, heed: Heed | None = None) -> Vectors:
        """Return the unit vectors (n, dimension), float32, of pixels (n, height, width, 3), uint8.

        Long work calls `heed` repeatedly, which may raise to end it.

        Raises TowerUnusable for pictures that the tower fails on.
        """
        with reporting_failures(self.kind):
            return unit_vectors(self._run(normalized(self.preprocess, pixels), heed))


class ImageTower(StoredPictureEncoder):
    """An image tower from a database, for any number of threads at once."""

    label = "The image tower"
    kind = IMAGE

    def __init__(self, stored: StoredTower, stopping: Stopping | None = None):
        """Load a tower and run its self-test: the vector of the picture that is stored with it.

        `stopping` ends that.

        Raises TowerUnusable for a tower that does not load or fails the test, and Stopped.
        """
        try:
            super().__init__(stored)
            self.precision = f"onnx-{_BITS[stored.facts['precision']]}"
            session = Session(
                stored.sections["onnx"],
                image_input(self.preprocess),
                (OUTPUT, self.dimension),
                stopping=stopping,
            )
            self._run = session.run
            shape = 1, self.preprocess.height, self.preprocess.width, 3
            pixels = np.frombuffer(stored.sections["picture"], np.uint8).reshape(shape)
            [vector] = self.encode_pixels(pixels, stopping.heed if stopping else never_stop)
            cosine = float(vector @ np.frombuffer(stored.sections["vector"], "<f4"))
        except (Stopped, TowerUnusable):
            raise
        except Exception as error:
            if stopping and stopping.is_set:
                raise Stopped from error
            # ONNX Runtime has many exceptions for broken data.
            raise loading_error(IMAGE, error) from error
        check_self_test(IMAGE, cosine)


def image_input(preprocess: Preprocess) -> Declared:
    """Return the input of an image tower: pictures from `normalized`."""
    return Declared(INPUT, FLOAT, (None, 3, preprocess.height, preprocess.width))
