"""What a model's outputs are, told from the float model's own: class scores, or values such as an embedding.

A matrix (samples, numbers) may be either, and the difference matters: embeddings have no decision to compare, and the
divergence of their softmax is next to nothing however wrong they are.
"""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Task = Literal["classes", "tokens", "values"]
Array = npt.NDArray[Any]

#: The temperature at which quantized models of class scores are compared. The mean divergence over some hundred samples
#: is that of the few worst ones: where the float model is sure, its softmax hides all logits but the first. Softened
#: (Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015), every logit of every sample counts,
#: and so few samples tell which of two models is the better one. The many positions of tokens need no softening.
SOFT = 4.0

#: Rows whose lengths differ by less than this part are normalized embeddings.
_SAME_LENGTH = 1e-3
#: Probabilities add up to 1, but for so much.
_SUMS_TO_ONE = 1e-3
#: Nats that the softmax of class scores is away from a uniform guess, on average, at least.
_UNDECIDED = 0.05


def softening(task: Task) -> float:
    """The temperature at which two quantized models are compared."""
    return SOFT if task == "classes" else 1.0


def guess_task(first_input: Array, outputs: tuple[Array, ...]) -> Task:
    """What the float model's outputs are.

    Classes for one output of class scores (samples, classes), tokens for one (samples, positions, classes) of
    whole-number inputs (samples, positions), values otherwise; an output shaped like the input is a reconstruction.

    Args:
        first_input: the model's first input.
        outputs: of the float model on it.
    """
    z = outputs[0]
    if len(outputs) > 1 or z.shape == first_input.shape:
        return "values"
    if is_scores(z):
        return "classes"
    whole = first_input.dtype.kind in "iu"
    return "tokens" if z.ndim == 3 and whole and z.shape[:2] == first_input.shape and z.shape[2] > 1 else "values"


def is_scores(outputs: Array) -> bool:
    """Whether the float model's outputs are class scores or probabilities: (samples, classes), and they decide."""
    if outputs.ndim != 2 or outputs.shape[1] < 2 or not np.isfinite(outputs).all():
        return False
    if is_distribution(outputs):
        return True
    z = outputs.astype(np.float64)
    lengths = np.linalg.norm(z, axis=1)
    if len(z) > 1 and z.shape[1] > 2 and np.ptp(lengths) <= _SAME_LENGTH * lengths.max():
        return False
    shifted = z - z.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    from_uniform = np.log(z.shape[1]) + (np.exp(log_p) * log_p).sum(1)
    return bool(from_uniform.mean() >= _UNDECIDED)


def is_distribution(outputs: Array) -> bool:
    """Whether the last axis holds probabilities: none negative, and their sum is 1."""
    return bool((outputs >= 0).all()) and bool((np.abs(outputs.sum(-1, dtype=np.float64) - 1) < _SUMS_TO_ONE).all())
