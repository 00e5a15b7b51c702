"""Top-1 accuracy of files in ONNX Runtime, its uncertainty, and the paired comparison of two files."""

import base64
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from scipy import stats

Array = npt.NDArray[Any]


def scores(model: bytes, x: Array, *, optimized: bool = True) -> Array:
    """The first output of an ONNX file for all samples, in batches of its own size or of 100; one thread.

    Args:
        model: the file.
        x: the samples.
        optimized: with onnxruntime's graph optimizations, as it runs by default.
    """
    options = onnxruntime.SessionOptions()
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    shape, name = session.get_inputs()[0].shape, session.get_inputs()[0].name
    size = shape[0] if isinstance(shape[0], int) else 100
    if len(x) % size and isinstance(shape[0], int):
        x = np.concatenate([x, np.zeros((size - len(x) % size, *x.shape[1:]), x.dtype)])
    return np.concatenate([session.run(None, {name: x[i : i + size]})[0] for i in range(0, len(x), size)])


def right(found: Array, labels: Array) -> npt.NDArray[np.bool_]:
    """Which samples are decided as labelled."""
    decided: npt.NDArray[np.bool_] = found[: len(labels)].argmax(1) == labels
    return decided


def accuracy(model: bytes, x: Array, y: Array) -> float:
    """Top-1 of an ONNX file."""
    return float(right(scores(model, x), y).mean())


def interval(share: float, count: int) -> str:
    """A percentage with its 95 % interval (normal approximation; counts are in the hundreds and more)."""
    half = 1.96 * (share * (1 - share) / count) ** 0.5
    return f"{share * 100:.2f} ({(share - half) * 100:.2f}-{(share + half) * 100:.2f})"


def mcnemar(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> float:
    """Exact two-sided p that two files judged on the same samples are right equally often.

    McNemar, "Note on the sampling error of the difference between correlated proportions", Psychometrika 1947; exact
    by the binomial distribution of the samples that one alone has right.
    """
    only = int((first & ~second).sum()), int((second & ~first).sum())
    return 1.0 if sum(only) == 0 else float(stats.binomtest(only[0], sum(only)).pvalue)


def packed(decided: npt.NDArray[np.bool_]) -> str:
    """Right and wrong, sample by sample, as text."""
    return base64.b85encode(zlib.compress(np.packbits(decided).tobytes(), 9)).decode()


def unpacked(text: str, count: int) -> npt.NDArray[np.bool_]:
    """What :func:`packed` was given."""
    bits = np.frombuffer(zlib.decompress(base64.b85decode(text)), np.uint8)
    return np.unpackbits(bits, count=count).astype(bool)
