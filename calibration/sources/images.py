"""A folder of images; class-named subfolders give labels."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from edgeq.calibration.preprocessing import Preprocessing
from edgeq.calibration.sources.source import Field, Indices, Rows
from edgeq.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".ppm", ".pgm", ".tif", ".tiff")


@dataclass(frozen=True)
class ImageFolder:
    """Images in sorted order of their path: field ``x`` float32 in the model's layout, and ``y`` int64 if labelled.

    Classes are the names of the first level of subfolders: the numbers they are if all are numbers, else 0, 1, ... in
    sorted order.
    """

    path: Path
    files: tuple[Path, ...]
    labels: tuple[int, ...] | None
    preprocessing: Preprocessing
    channels: int
    fields: Mapping[str, Field]

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @classmethod
    def open(cls, path: Path, preprocessing: Preprocessing, channels: int) -> "ImageFolder":
        """List the images, and read the first for its size.

        Raises:
            DataError: no image is found, or images lie both in the folder and in subfolders.
        """
        files = tuple(sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()))
        if not files:
            raise DataError(f"the folder {path.name} holds no images ({', '.join(SUFFIXES)})")
        classes = [p.relative_to(path).parts[0] if p.parent != path else None for p in files]
        if None in classes and any(c is not None for c in classes):
            raise DataError(
                f"the folder {path.name} holds images beside class-named subfolders; "
                "use either subfolders for every class, or none"
            )
        labels = None if classes[0] is None else _labels([str(c) for c in classes])
        first = preprocessing.normalize(_pixels(files[0], preprocessing, channels)[None])
        fields = {"x": Field((len(files), *first.shape[1:]), first.dtype)}
        if labels is not None:
            fields["y"] = Field((len(files),), np.dtype(np.int64))
        return cls(path, files, labels, preprocessing, channels, fields)

    def read(self, indices: Indices, size: int) -> Iterator[Rows]:
        """See :class:`edgeq.calibration.sources.Source`."""
        shape = self.fields["x"].shape[1:]
        for start in range(0, len(indices), size):
            wanted = [int(i) for i in indices[start : start + size]]
            images = [self.preprocessing.normalize(self._image(i)[None])[0] for i in wanted]
            for index, image in zip(wanted, images, strict=True):
                if image.shape != shape:
                    raise DataError(
                        f"image {self.files[index].name} has shape {image.shape}, the first one {shape}; "
                        "give --resize and --crop"
                    )
            rows: Rows = {"x": np.stack(images)}
            if self.labels is not None:
                rows["y"] = np.array([self.labels[i] for i in wanted], dtype=np.int64)
            yield rows

    def _image(self, index: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        return _pixels(self.files[index], self.preprocessing, self.channels)


def _pixels(file: Path, preprocessing: Preprocessing, channels: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    try:
        with Image.open(file) as image:
            return preprocessing.image(image, channels)
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise DataError(f"image {file.name} cannot be read: {error}; remove or replace it") from None


def _labels(classes: list[str]) -> tuple[int, ...]:
    if all(c.isdecimal() for c in classes):
        return tuple(int(c) for c in classes)
    number = {c: i for i, c in enumerate(sorted(set(classes)))}
    return tuple(number[c] for c in classes)
