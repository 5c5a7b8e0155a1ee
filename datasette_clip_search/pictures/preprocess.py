"""Resize and crop a picture to a model's input, as OpenCLIP does, in one step."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    from ..common.arrays import Pixels

# Stored with a model. Increase it with every change that makes different pixels from a picture.
VERSION = 1
# OpenCLIP's largest models take 512 pixels a side.
_LARGEST_SIDE = 2048
_LARGEST_MEAN = 1e6


@dataclass(frozen=True)
class ModelInput:
    """A picture as a model's input: three bytes for each pixel, row by row."""

    rgb: bytearray
    height: int
    width: int

    @property
    def pixels(self) -> "Pixels":
        """The pixels as an array (height, width, 3) uint8, without a copy."""
        import numpy as np

        return np.frombuffer(self.rgb, np.uint8).reshape(self.height, self.width, 3)


@dataclass(frozen=True)
class Preprocess:
    """One model's preprocessing settings, as in open_clip.transform.PreprocessCfg.

    `resize_mode` is "shortest" (crop the centre), "longest" (pad with `fill_color`) or "squash".
    """

    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bicubic"
    resize_mode: str = "shortest"
    fill_color: int = 0

    @classmethod
    def from_open_clip(cls, settings: Mapping[str, Any]) -> "Preprocess":
        """Read the settings that an OpenCLIP model carries."""
        size = settings["size"]
        height, width = size if isinstance(size, (tuple, list)) else (size, size)
        return cls(
            height=int(height),
            width=int(width),
            mean=tuple(map(float, settings["mean"])),
            std=tuple(map(float, settings["std"])),
            interpolation=settings.get("interpolation") or "bicubic",
            resize_mode=settings.get("resize_mode") or "shortest",
            fill_color=int(settings.get("fill_color") or 0),
        )

    @classmethod
    def from_identity(cls, settings: Mapping[str, Any]) -> "Preprocess":
        """Read stored settings, in our form or in OpenCLIP's."""
        if "size" in settings:
            return cls.from_open_clip(settings)._checked()
        named = {name: settings[name] for name in cls.__dataclass_fields__}
        stored = cls(**{**named, "mean": tuple(named["mean"]), "std": tuple(named["std"])})
        return stored._checked()

    def _checked(self) -> "Preprocess":
        """Return these settings, which come from a database.

        Raise ValueError for settings that no model has.
        """
        sizes = (self.height, self.width)
        if not all(type(size) is int and 0 < size <= _LARGEST_SIDE for size in sizes):
            raise ValueError(f"a model's input can't have a side of {self.height!r:.20} pixels")
        for numbers in (self.mean, self.std):
            if len(numbers) != 3 or not all(type(each) in (int, float) for each in numbers):
                raise ValueError("a model's mean and std must be three numbers each")
            if not all(abs(number) < _LARGEST_MEAN for number in numbers):
                raise ValueError("a model's mean and std must be finite")
        if min(self.std) <= 0 or self.resize_mode not in ("shortest", "longest", "squash"):
            raise ValueError(
                "a model's std must be positive, and its resize_mode one of OpenCLIP's"
            )
        if type(self.fill_color) is not int or not 0 <= self.fill_color <= 255:
            raise ValueError("a model's fill_color must be an integer from 0 to 255")
        return self

    @property
    def identity(self) -> dict[str, Any]:
        """The settings and the version of this code, ready for JSON."""
        return {
            **asdict(self),
            "mean": list(self.mean),
            "std": list(self.std),
            "version": VERSION,
        }

    def shows_the_same(self, other: "Preprocess") -> bool:
        """Return whether both make the same pixels; mean and std only apply to them later."""
        return replace(self, mean=other.mean, std=other.std) == other

    @property
    def smallest_side(self) -> int:
        """The longer side of the input, in pixels: decode a shorter side to at least twice that."""
        return max(self.height, self.width)

    def pixels(self, image: Image.Image, size: tuple[int, int] | None = None) -> "Pixels":
        """Return the model's input for an RGB image, an array (height, width, 3) uint8."""
        return self.model_input(image, size).pixels

    def model_input(self, image: Image.Image, size: tuple[int, int] | None = None) -> ModelInput:
        """Return the model's input for an RGB image.

        If `image` was decoded at a reduced scale, `size` is the picture's full (width, height): the
        crop is computed from it, so that it is the same at every scale. Resizing only the crop
        gives the same pixels as cropping the resized image, with less work.
        """
        shown = self._shown(image, *(size or image.size))
        return ModelInput(bytearray(shown.tobytes()), self.height, self.width)

    def _shown(self, image: Image.Image, width: int, height: int) -> Image.Image:
        if self.resize_mode == "squash":
            return self._resize(image, (self.width, self.height))
        if self.resize_mode == "longest":
            return self._fitted(image, width, height)
        new_width, new_height = self._covering(width, height)
        left = round((new_width - self.width) / 2)
        top = round((new_height - self.height) / 2)
        scale_x, scale_y = image.width / new_width, image.height / new_height
        box = (
            left * scale_x,
            top * scale_y,
            min((left + self.width) * scale_x, image.width),
            min((top + self.height) * scale_y, image.height),
        )
        return self._resize(image, (self.width, self.height), box)

    def _covering(self, width: int, height: int) -> tuple[int, int]:
        """Return the size at which a picture just covers the model's input."""
        if self.width == self.height:
            # torchvision's Resize truncates the longer side; other code in OpenCLIP rounds it.
            if width <= height:
                return self.width, int(self.width * height / width)
            return int(self.height * width / height), self.height
        ratio = min(height / self.height, width / self.width)
        return max(round(width / ratio), self.width), max(round(height / ratio), self.height)

    def _fitted(self, image: Image.Image, width: int, height: int) -> Image.Image:
        ratio = max(height / self.height, width / self.width)
        inside = max(round(width / ratio), 1), max(round(height / ratio), 1)
        canvas = Image.new("RGB", (self.width, self.height), (self.fill_color,) * 3)
        place = (self.width - inside[0]) // 2, (self.height - inside[1]) // 2
        canvas.paste(self._resize(image, inside), place)
        return canvas

    def _resize(
        self,
        image: Image.Image,
        size: tuple[int, int],
        box: tuple[float, float, float, float] | None = None,
    ) -> Image.Image:
        # For a target that isn't square, OpenCLIP always uses bicubic interpolation.
        covers = self.resize_mode == "shortest" and self.width != self.height
        bilinear = self.interpolation == "bilinear" and not covers
        method = Image.Resampling.BILINEAR if bilinear else Image.Resampling.BICUBIC
        return image.resize(size, method, box)
