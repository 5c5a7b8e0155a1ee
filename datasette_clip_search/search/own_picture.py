"""Pictures of the caller's own as queries: decoded in this process, in every format of embed's."""

from typing import TYPE_CHECKING

import numpy as np

from ..common.arrays import Vectors
from ..common.config import CONFIG
from ..common.errors import NotAPicture
from ..database.model import Model
from ..database.vectors import check_query_vectors
from ..models.encoding import PictureEncoder

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..pictures.decode import Picture


def decode_own(data: bytes, encoder: PictureEncoder, name: str) -> "Picture":
    """Return a picture file decoded for an encoder, and for a thumbnail.

    Raises PictureError. Only decode what a person chose: nothing but its megapixels is limited.
    """
    from ..pictures.decode import decode_picture, without_pillow_limit

    with without_pillow_limit():
        return decode_picture(
            data,
            smallest_side=encoder.preprocess.smallest_side,
            longest_side=CONFIG.thumbnail_size,
            name=name,
        )


def encode_own(
    model: Model, encoder: PictureEncoder, image: "Image", size: tuple[int, int] | None = None
) -> Vectors:
    """Return the unit vector (d,) float32 of an upright RGB image.

    `size` is the picture's own, where the image was decoded at a reduced scale.
    """
    pixels = encoder.preprocess.pixels(image, size)
    made = encoder.encode_pixels(pixels[np.newaxis])
    vector: Vectors = check_query_vectors(made, 1, model.dimension)[0]
    return vector


def upright_rgb(image: "Image") -> "Image":
    """Return a Pillow image as pictures are decoded: upright, and 8-bit sRGB on white.

    Raises NotAPicture for an image that Pillow can't load.
    """
    from PIL import ImageOps

    from ..pictures.colour import to_srgb

    try:
        return to_srgb(ImageOps.exif_transpose(image))
    except (OSError, SyntaxError, ValueError) as error:
        raise NotAPicture(f"The image can't be loaded: {error}") from error
