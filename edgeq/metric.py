"""The task metric, per sample: what accuracy means for a model, with labels or against the float model."""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import DataError, UsageError
from edgeq.measurement import Evaluation
from edgeq.task import is_scores

Array = npt.NDArray[Any]
Scores = npt.NDArray[np.float64]
#: (outputs, labels or None, the float model's outputs) -> a score for each sample
Scorer = Callable[[Array, Array | None, Array], Scores]


def top1(outputs: Array, labels: Array | None, reference: Array) -> Scores:
    """1 where the largest output is the label's; outputs (samples, classes)."""
    hits: Scores = (decisions(outputs) == _needed("top1", labels, len(outputs))).astype(np.float64)
    return hits


def top5(outputs: Array, labels: Array | None, reference: Array) -> Scores:
    """1 where the label is among the five largest outputs (ties resolved by the lower class)."""
    best = np.argsort(-outputs.reshape(len(outputs), -1), axis=1, kind="stable")[:, :5]
    hits: Scores = (best == _needed("top5", labels, len(outputs))[:, None]).any(1).astype(np.float64)
    return hits


def agreement(outputs: Array, labels: Array | None, reference: Array) -> Scores:
    """1 where the decision is the float model's."""
    same: Scores = (decisions(outputs) == decisions(reference)).astype(np.float64)
    return same


def mse(outputs: Array, labels: Array | None, reference: Array) -> Scores:
    """Mean squared difference to the labels, or to the float model where there are none; lower is better."""
    target = reference if labels is None else labels
    errors: Scores = np.square(_flat(outputs) - _flat(target)).mean(1)
    return errors


def cosine(outputs: Array, labels: Array | None, reference: Array) -> Scores:
    """Cosine similarity to the float model's output."""
    a, b = _flat(outputs), _flat(reference)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    result: npt.NDArray[np.float64] = (a * b).sum(1) / np.maximum(norms, np.finfo(np.float64).tiny)
    return result


def nll(outputs: Array, labels: Array | None, reference: Array) -> Scores:
    """Negative log-likelihood of the label tokens, averaged over a sequence; ``perplexity`` is exp of its mean."""
    targets = _needed("perplexity", labels, len(outputs)).astype(np.int64)
    logits = outputs.astype(np.float64)
    logits = logits - logits.max(-1, keepdims=True)
    log_probability = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    picked = -np.take_along_axis(log_probability, targets[..., None], -1)[..., 0]
    mean: Scores = picked.reshape(len(outputs), -1).mean(1)
    return mean


METRICS: dict[str, Scorer] = {
    "top1": top1,
    "top5": top5,
    "agreement": agreement,
    "mse": mse,
    "cosine": cosine,
    "perplexity": nll,
}
#: Metrics of decisions.
_DECIDES = frozenset({"top1", "top5", "agreement"})
#: Metrics of outputs that decide at each position of a sample.
PER_TOKEN = frozenset({"perplexity"})
#: Metrics of which less is better.
ERRORS = frozenset({"mse", "perplexity"})


def scorer(name: str) -> Scorer:
    """A built-in metric, or ``package.module:callable``.

    Raises:
        UsageError: there is no such metric.
    """
    if name in METRICS:
        return METRICS[name]
    module_name, _, attribute = name.partition(":")
    if not attribute:
        raise UsageError(f"--metric {name}: choose from {', '.join(METRICS)}, or give package.module:callable")
    try:
        function: Scorer = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"--metric {name}: {error}") from error
    return function


def default_metric(labels: Array | None, outputs: Array) -> str:
    """top1 with class labels; without labels agreement for class scores, cosine for vectors; mse for anything else.

    Args:
        labels: or None.
        outputs: of the float model.
    """
    vectors = outputs.ndim == 2 and outputs.shape[1] > 1
    if labels is not None:
        return "top1" if vectors and labels.ndim == 1 and labels.dtype.kind in "iu" else "mse"
    if not vectors:
        return "mse"
    return "agreement" if is_scores(outputs) else "cosine"


def evaluate(metric: str, outputs: Array, labels: Array | None, reference: Array) -> Evaluation:
    """One model's scores by sample.

    Raises:
        DataError: the metric gave something else than one finite number for each sample.
    """
    scores = np.asarray(scorer(metric)(outputs, labels, reference), np.float64)
    if scores.shape != (len(outputs),):
        raise DataError(f"metric {metric}: it gave {scores.shape}, not one number for each of {len(outputs)} samples")
    if not np.isfinite(scores).all():
        raise DataError(f"metric {metric}: sample {int(np.argmin(np.isfinite(scores)))} has no finite score")
    decides = metric in _DECIDES or is_scores(reference)
    return Evaluation(metric, scores, decisions(outputs) if decides else None)


def decisions(outputs: Array) -> npt.NDArray[np.int64]:
    """The class chosen for each sample: the first largest of the last axis."""
    flat = outputs.reshape(len(outputs), -1)
    chosen: npt.NDArray[np.int64] = flat.argmax(1).astype(np.int64)
    return chosen


def _needed(metric: str, labels: Array | None, samples: int) -> Array:
    if labels is None:
        raise DataError(f"metric {metric} needs labels; give them, or use --metric agreement")
    if len(labels) != samples:
        raise DataError(f"{len(labels)} labels for {samples} samples")
    return labels


def _flat(array: Array) -> Scores:
    return array.reshape(len(array), -1).astype(np.float64)
