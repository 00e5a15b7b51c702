"""From pixels to what the model was trained on: resize, crop, scale, layout; one frozen value, equal for every set."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from edgeq.errors import UsageError

Layout = Literal["nchw", "nhwc"]


@dataclass(frozen=True)
class Preprocessing:
    """value = (pixel * unit - mean) / std, channel by channel, after resizing and cropping.

    Attributes:
        resize: the shorter side in pixels (aspect kept), or (height, width), or None to leave the size alone.
        crop: (height, width) of the central crop, or None.
        mean: per channel, or one for all, in the unit's scale.
        std: per channel, or one for all, in the unit's scale.
        unit: 1/255 where mean and std are of pixels in [0, 1]; 1 where they are of pixels in [0, 255].
        layout: what the model reads: ``nchw`` or ``nhwc``; None is told from the model's input shape.
    """

    resize: int | tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    unit: float = 1 / 255
    layout: Layout | None = None

    def __post_init__(self) -> None:
        sizes = [self.resize] if isinstance(self.resize, int) else [*(self.resize or ())]
        if any(size < 1 for size in [*sizes, *(self.crop or ())]):
            raise UsageError(f"--resize {self.resize} --crop {self.crop}: sizes are positive numbers of pixels")
        if not self.mean or not self.std or not np.isfinite([*self.mean, *self.std]).all() or min(self.std) <= 0:
            raise UsageError(f"--mean {self.mean} --std {self.std}: finite numbers, and std above zero, are needed")
        if self.layout not in (None, "nchw", "nhwc"):
            raise UsageError(f"--layout {self.layout!r}: write nchw or nhwc")

    @classmethod
    def from_options(
        cls,
        *,
        resize: int | tuple[int, int] | None = None,
        crop: int | tuple[int, int] | None = None,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
        layout: Layout | None = None,
    ) -> "Preprocessing":
        """As the command line gives it: mean and std are of pixels in [0, 255] if one exceeds 1, else in [0, 1]."""
        unit = 1.0 if max(abs(number) for number in (*mean, *std)) > 1 else 1 / 255
        square = (crop, crop) if isinstance(crop, int) else crop
        return cls(resize, square, tuple(mean), tuple(std), unit, layout)

    def image(self, image: Image.Image, channels: int) -> npt.NDArray[np.uint8]:
        """The pixels (height, width, channels) after resizing (bilinear, antialiased) and central crop."""
        image = image.convert("RGB" if channels == 3 else "L")
        if self.resize is not None:
            image = image.resize(self._size(image), Image.Resampling.BILINEAR)
        if self.crop is not None:
            height, width = self.crop
            if height > image.height or width > image.width:
                raise UsageError(
                    f"--crop {height}x{width} is larger than an image of {image.height}x{image.width}; "
                    "give a larger --resize"
                )
            left, top = (image.width - width) // 2, (image.height - height) // 2
            image = image.crop((left, top, left + width, top + height))
        pixels = np.asarray(image, dtype=np.uint8)
        return pixels if pixels.ndim == 3 else pixels[:, :, None]

    def arrays(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Model values of stored images (samples, height, width, channels), resized and cropped as image files are."""
        if self.resize is not None or self.crop is not None:
            channels = pixels.shape[-1]
            images = (Image.fromarray(p if channels == 3 else p[:, :, 0]) for p in pixels)
            pixels = np.stack([self.image(image, channels) for image in images])
        return self.normalize(pixels)

    def _size(self, image: Image.Image) -> tuple[int, int]:
        if isinstance(self.resize, tuple):
            return self.resize[1], self.resize[0]
        factor = (self.resize or 0) / min(image.width, image.height)
        return max(1, round(image.width * factor)), max(1, round(image.height * factor))

    def normalize(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Model values (float32, in the model's layout) of pixels (samples, height, width, channels)."""
        channels = pixels.shape[-1]
        for option, numbers in (("--mean", self.mean), ("--std", self.std)):
            if len(numbers) not in (1, channels):
                raise UsageError(f"{option} has {len(numbers)} numbers, the images have {channels} channels")
        values = pixels.astype(np.float32)
        if self.unit != 1.0:
            # Dividing by 255 (not multiplying by its rounded inverse) gives the bits that training code gives.
            values /= np.float32(1 / self.unit)
        values -= np.asarray(self.mean, np.float32)
        values /= np.asarray(self.std, np.float32)
        return np.ascontiguousarray(values if self.layout == "nhwc" else values.transpose(0, 3, 1, 2))
