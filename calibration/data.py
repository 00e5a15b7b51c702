"""Samples for a model: opened from any source, checked against the model's inputs, streamed batch by batch.

Names in a source: an array called like an input of the model feeds it; otherwise ``x`` feeds the model's only input,
and so does the only array of a source. ``y``, ``labels``, ``label`` or ``targets`` are labels. Others are left alone.

Shapes: an array of the input's rank has the samples along its first axis. An array with one axis more holds whole
inputs (a recurrent model with its state, say): then every batch is one such sample. A number that belongs to all
samples (a sampling rate) is an array of rank 0.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.calibration.preprocessing import Preprocessing
from edgeq.calibration.sources.arrays import ArrayFile
from edgeq.calibration.sources.function import FunctionSource
from edgeq.calibration.sources.images import ImageFolder
from edgeq.calibration.sources.memory import ArraySource
from edgeq.calibration.sources.source import Field, Indices, Rows, Source
from edgeq.calibration.specs import InputSpec
from edgeq.errors import DataError

LABEL_NAMES = ("y", "labels", "label", "targets")

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Batch:
    """Some samples, as the model takes them.

    Attributes:
        inputs: by the model's input name, in the order of its inputs, samples first (or one whole input).
        labels: (samples, ...), or None.
        indices: which samples of the source these are.
    """

    inputs: dict[str, Array]
    labels: Array | None
    indices: Indices

    def __len__(self) -> int:
        return len(self.indices)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples that fit a model, or a part of them; reads its source anew for each pass.

    Attributes:
        source: where the samples come from.
        specs: the model's inputs.
        keys: input name -> name of its array in the source.
        label: name of the labels in the source, or None.
        indices: which samples of the source belong, ascending.
        preprocessing: applied to arrays of pixels (uint8); None where the arrays are ready for the model.
    """

    source: Source
    specs: tuple[InputSpec, ...]
    keys: Mapping[str, str]
    label: str | None
    indices: Indices
    preprocessing: Preprocessing | None = None

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def name(self) -> str:
        """How messages name it."""
        return self.source.name

    @cached_property
    def whole(self) -> bool:
        """Whether each sample is a whole input of the model, so that batches hold one sample."""
        return any(len(self._field(spec).shape) == len(spec.shape) + 1 for spec in self.specs)

    @property
    def labelled(self) -> bool:
        """Whether there are labels."""
        return self.label is not None

    def _field(self, spec: InputSpec) -> Field:
        return self.source.fields[self.keys[spec.name]]

    def batches(self, size: int, indices: Sequence[int] | Indices | None = None) -> Iterator[Batch]:
        """The samples in ascending order, ``size`` at a time, the last batch maybe shorter.

        Args:
            size: samples in a batch; 1 is used where every sample is a whole input.
            indices: positions in this dataset; None for all.

        Raises:
            DataError: a sample holds NaN or infinity, or the source is damaged.
        """
        chosen = self.indices if indices is None else self.subset(indices).indices
        size = 1 if self.whole else size
        starts = range(0, len(chosen), size)
        for start, rows in zip(starts, self.source.read(chosen, size), strict=True):
            here = chosen[start : start + size]
            inputs = {spec.name: self._input(spec, rows, here) for spec in self.specs}
            yield Batch(inputs, None if self.label is None else rows[self.label], here)

    def _input(self, spec: InputSpec, rows: Rows, indices: Indices) -> Array:
        array = rows[self.keys[spec.name]]
        if self.preprocessing is not None and _is_pixels(self._field(spec)):
            array = self.preprocessing.arrays(_channels_last(array))
        array = _cast(array, spec, self.name, indices)
        return array[0] if self.whole and array.ndim > len(spec.shape) else array

    def subset(self, indices: Sequence[int] | Indices) -> "Dataset":
        """The samples at those positions, in ascending order, each once."""
        return replace(self, indices=self.indices[np.unique(np.asarray(indices, dtype=np.int64))])

    def take(self, count: int, seed: int = 0) -> "Dataset":
        """At most ``count`` samples, drawn by seed."""
        if count >= len(self):
            return self
        return self.subset(np.random.default_rng(seed).permutation(len(self))[:count])

    def load(self) -> Batch:
        """All samples at once, for small sets; memory grows with their number."""
        parts = list(self.batches(256))
        if self.whole and len(parts) > 1:
            raise DataError(f"{self.name}: whole inputs cannot be joined into one batch; read them one by one")
        inputs = {
            s.name: np.concatenate([p.inputs[s.name] for p in parts]) if s.shape else parts[0].inputs[s.name]
            for s in self.specs
        }
        return Batch(inputs, self.labels(parts), self.indices)

    def labels(self, batches: Iterable[Batch] | None = None) -> Array | None:
        """The labels of all samples in order, or None."""
        if self.label is None:
            return None
        found = [b.labels for b in (self.batches(256) if batches is None else batches) if b.labels is not None]
        return np.concatenate(found)

    @cached_property
    def hashes(self) -> tuple[bytes, ...]:
        """A hash of what the model gets, sample by sample: equal for equal content in whatever file it lies."""
        found: list[bytes] = []
        for batch in self.batches(64):
            for row in range(len(batch)):
                digest = blake2b(digest_size=16)
                for spec in self.specs:
                    array = batch.inputs[spec.name]
                    sample = array if self.whole or not spec.shape else array[row]
                    digest.update(np.ascontiguousarray(sample).data)
                found.append(digest.digest())
        return tuple(found)


def open_dataset(
    data: str | Path | Mapping[str, Array] | Callable[[], Iterable[Any]],
    specs: Sequence[InputSpec],
    preprocessing: Preprocessing | None = None,
) -> Dataset:
    """Open samples and check all that can be checked without reading them.

    Args:
        data: an ``.npz`` or ``.npy`` file, a folder of images, ``package.module:callable``, arrays, or a callable.
        specs: the model's inputs (``input_specs(graph.inputs)``).
        preprocessing: how pixels become model values; for folders the default divides by 255.

    Raises:
        DataError: names, shapes, types or lengths do not fit the model, or there are no samples; one line each.
    """
    specs = tuple(specs)
    source = _open_source(data, specs, preprocessing)
    keys = _keys(source, specs)
    label = next((key for key in LABEL_NAMES if key in source.fields and key not in keys.values()), None)
    # A folder's pixels are preprocessed as they are read, by the source itself.
    applied = None if isinstance(source, ImageFolder) or preprocessing is None else _with_layout(preprocessing, specs)
    count = _count(source, specs, keys, label)
    dataset = Dataset(source, specs, keys, label, np.arange(count, dtype=np.int64), applied)
    for spec in specs:
        _check_input(dataset, spec)
    return dataset


def _open_source(data: Any, specs: tuple[InputSpec, ...], preprocessing: Preprocessing | None) -> Source:
    if isinstance(data, Mapping):
        return ArraySource({key: np.asarray(array) for key, array in data.items()})
    if callable(data):
        return FunctionSource.of(data, getattr(data, "__qualname__", type(data).__name__))
    path = Path(data)
    if path.is_dir():
        layout = _with_layout(preprocessing or Preprocessing(), specs)
        shape = specs[0].shape
        channels = shape[-1 if layout.layout == "nhwc" else 1] if len(shape) == 4 else None
        if channels not in (1, 3):
            raise DataError(f"a folder of images does not fit input {specs[0].name!r} of shape {_shape(shape)}")
        return ImageFolder.open(path, layout, channels)
    if path.suffix in (".npz", ".npy"):
        if not path.is_file():
            raise DataError(f"{path} does not exist; name an .npz or .npy file, a folder of images, or module:callable")
        return ArrayFile.open(path)
    if ":" in str(data) and not path.exists():
        return FunctionSource.open(str(data))
    what = "is of no known kind" if path.exists() else "does not exist"
    raise DataError(f"{data} {what}; name an .npz or .npy file, a folder of images, or package.module:callable")


def _with_layout(preprocessing: Preprocessing, specs: tuple[InputSpec, ...]) -> Preprocessing:
    if preprocessing.layout is not None:
        return preprocessing
    shape = specs[0].shape
    channels_last = len(shape) == 4 and shape[-1] in (1, 3) and shape[1] not in (1, 3)
    return replace(preprocessing, layout="nhwc" if channels_last else "nchw")


def _keys(source: Source, specs: tuple[InputSpec, ...]) -> dict[str, str]:
    found = {spec.name: spec.name for spec in specs if spec.name in source.fields}
    missing = [spec.name for spec in specs if spec.name not in found]
    if len(missing) == 1:
        free = [key for key in source.fields if key not in (*found, *LABEL_NAMES)]
        if "x" in free:
            found[missing[0]] = "x"
        elif len(free) == 1 and len(specs) == 1:
            found[missing[0]] = free[0]
    missing = [spec.name for spec in specs if spec.name not in found]
    if missing:
        raise DataError(
            f"{source.name} holds {', '.join(source.fields)} but the model's inputs are "
            f"{', '.join(spec.name for spec in specs)}; name the arrays like the inputs, or x where there is one input"
        )
    return found


def _count(source: Source, specs: tuple[InputSpec, ...], keys: Mapping[str, str], label: str | None) -> int:
    used = {key: source.fields[key].shape for key in keys.values()}
    lengths = {key: shape[0] for key, shape in used.items() if shape}
    count = next(iter(lengths.values()), 1)
    if count == 0:
        raise DataError(f"{source.name} holds no samples: {next(iter(lengths))!r} has length 0")
    if len(set(lengths.values())) > 1:
        listing = ", ".join(f"{key} {length}" for key, length in lengths.items())
        raise DataError(f"{source.name}: inputs differ in length: {listing}; each sample needs all of them")
    if label is not None and source.fields[label].shape[:1] != (count,):
        has = source.fields[label].shape[0] if source.fields[label].shape else "one number"
        raise DataError(f"{source.name}: {count} samples but {has} labels in {label!r}; each sample needs one label")
    return count


def _check_input(dataset: Dataset, spec: InputSpec) -> None:
    field = dataset._field(spec)
    if dataset.preprocessing is not None and _is_pixels(field):
        first = next(dataset.source.read(dataset.indices[:1], 1))[dataset.keys[spec.name]]
        shape = dataset.preprocessing.arrays(_channels_last(first)).shape[1:]
    else:
        _check_dtype(dataset.name, field, spec)
        extra = len(field.shape) == len(spec.shape) + 1
        shape = field.shape[1:]
        if not field.shape and not spec.shape:
            return
        if extra and _fits(shape, spec.shape):
            return
    if len(shape) + 1 != len(spec.shape) or not _fits(shape, spec.shape[1:]):
        raise DataError(
            f"{dataset.name}: samples of shape {_shape(shape)} do not fit input {spec.name!r}, "
            f"which takes {_shape(spec.shape[1:])}" + _shape_hint(shape, spec)
        )


def _check_dtype(name: str, field: Field, spec: InputSpec) -> None:
    wanted, got = spec.dtype.kind, field.dtype.kind
    if wanted == "f" and got != "f":
        raise DataError(
            f"{name} holds {field.dtype} but input {spec.name!r} takes {spec.dtype}; give the --mean and --std of "
            "training, or save the samples as the float values that the model was trained on"
        )
    if wanted in "iub" and got not in "iub":
        raise DataError(f"{name} holds {field.dtype} but input {spec.name!r} takes {spec.dtype}; save whole numbers")


def _fits(shape: Sequence[int], wanted: Sequence[int | None]) -> bool:
    return len(shape) == len(wanted) and all(w in (None, s) for s, w in zip(shape, wanted, strict=True))


def _shape_hint(shape: Sequence[int], spec: InputSpec) -> str:
    if len(shape) == 3:
        for axes in ((2, 0, 1), (1, 2, 0)):
            if _fits([shape[a] for a in axes], spec.shape[1:]):
                return f"; transpose them (sample.transpose{axes})"
        return "; resize them (--resize, --crop)"
    return "; save them in the model's shape, samples first"


def _shape(shape: Sequence[int | None]) -> str:
    return "(" + ", ".join("?" if d is None else str(d) for d in shape) + ")"


def _is_pixels(field: Field) -> bool:
    return field.dtype == np.uint8 and len(field.shape) in (3, 4)


def _channels_last(pixels: Array) -> Array:
    if pixels.ndim == 3:
        return pixels[..., None]
    first = pixels.shape[1] in (1, 3) and pixels.shape[-1] not in (1, 3)
    return pixels.transpose(0, 2, 3, 1) if first else pixels


def _cast(array: Array, spec: InputSpec, name: str, indices: Indices) -> Array:
    if spec.dtype.kind != "f":
        limits = np.iinfo(spec.dtype) if spec.dtype.kind in "iu" else None
        if limits is not None and array.size and (array.min() < limits.min or array.max() > limits.max):
            raise DataError(f"{name}: input {spec.name!r} takes {spec.dtype}, a sample exceeds it")
        return array.astype(spec.dtype)
    with np.errstate(over="ignore"):
        array = array.astype(spec.dtype, copy=False)
    # The sum is finite only if every number is: one pass without a temporary; the slow look follows only on doubt.
    with np.errstate(over="ignore", invalid="ignore"):
        doubt = not np.isfinite(array.sum(dtype=np.float64))
    if doubt and not np.isfinite(array).all():
        row = int(np.argmin(np.isfinite(array).reshape(len(array), -1).all(1))) if array.ndim else 0
        raise DataError(
            f"{name}: sample {indices[row]} holds NaN or infinity in input {spec.name!r}; repair or remove it"
        )
    return array
