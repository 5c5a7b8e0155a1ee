"""Decode the caller's own pictures as queries, in this process and in every format of embed()."""

import os
from typing import TYPE_CHECKING, TypeGuard

import numpy as np

from ..common.arrays import Vectors
from ..common.config import CONFIG
from ..common.errors import NotAPicture, PictureError, QueryError
from ..database.model import Model
from ..database.vectors import check_query_vectors
from ..models.encoding import PictureEncoder

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..pictures.decode import Picture


def decode_own(data: bytes, encoder: PictureEncoder, name: str) -> "Picture":
    """Return a picture file decoded for an encoder, and for a thumbnail.

    Raises PictureError. Decode only files that the user chose: nothing but their megapixels is
    limited.
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


def own_picture_vector(
    model: Model, encoder: PictureEncoder, picture: "str | os.PathLike[str] | Image"
) -> Vectors:
    """Return the unit vector (d,) float32 of a picture file or a Pillow image.

    Raises QueryError for a file that can't be read or is not a picture, and for anything else.
    """
    if is_image(picture):
        return encode_own(model, encoder, _upright_rgb(picture))
    if not isinstance(picture, str | os.PathLike):
        raise QueryError(
            f"image is a {type(picture).__name__}. Expected a path, the bytes of a picture "
            "file, or a Pillow image"
        )
    path = os.path.expanduser(picture)
    try:
        decoded = decode_own(_read(path), encoder, path)
    except PictureError as error:
        raise NotAPicture(f"{path}: {error}") from error
    return encode_own(model, encoder, decoded.image, (decoded.width, decoded.height))


def is_image(value: object) -> "TypeGuard[Image]":
    """Tell whether a value is a Pillow image."""
    from PIL.Image import Image

    return isinstance(value, Image)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise QueryError(f"{path} can't be read: {error.strerror}") from error
    except ValueError as error:
        # A name that no file can have: with a NUL character, or half of a surrogate pair.
        raise QueryError(f"{path} can't be read: {error}") from error


def _upright_rgb(image: "Image") -> "Image":
    """Return a Pillow image as pictures are decoded: upright, and 8-bit sRGB on white."""
    from PIL import ImageOps

    from ..pictures.colour import to_srgb

    if 0 in image.size:
        raise NotAPicture(f"The image has no pixels: its size is {image.width} x {image.height}")
    try:
        return to_srgb(ImageOps.exif_transpose(image))
    except (OSError, SyntaxError, ValueError) as error:
        raise NotAPicture(f"The image can't be loaded: {error}") from error
