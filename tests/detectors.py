"""Small detectors with random weights: heads for boxes in pixels and for scores, decoded in the ways of real models."""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgeq.graph.graph import Graph

from .graphs import graph_of, n

Array = npt.NDArray[Any]
#: What stands behind the heads: anchors and strides as tables, boxes as the head gives them, box sizes through Exp with
#: the best chosen, or nothing but scores of two heads.
Decoding = Literal["anchors", "plain", "chosen", "logits"]
PLACES, CLASSES = 64, 3


def detector(decoding: Decoding, seed: int = 0) -> Graph:
    """x (n, 3, 8, 8) -> y (n, 4 + 3, 64): boxes between 0 and some hundred above scores between 0 and 1."""
    rng = np.random.default_rng(seed)
    constants: dict[str, Array] = {
        "w": rng.normal(size=(8, 3, 3, 3)) * 0.3, "wb": rng.normal(size=(4, 8, 1, 1)) * 0.5,
        "ws": rng.normal(size=(CLASSES, 8, 1, 1)) * 0.5, "bs": np.full(CLASSES, -2.0),
        "anchors": rng.uniform(0, 640, (1, 4, PLACES)), "strides": np.full((1, 1, PLACES), 8.0),
    }  # fmt: skip
    constants["wb"] *= {"anchors": 1, "plain": 100, "chosen": 1, "logits": 100}[decoding]
    constants = {key: array.astype(np.float32) for key, array in constants.items()}
    constants |= {"four": np.array([-1, 4, PLACES]), "three": np.array([-1, CLASSES, PLACES]), "ten": np.array([10])}
    nodes = [
        n("Conv", "x w", "c", pads=[1, 1, 1, 1]), n("Relu", "c", "r"), n("Conv", "r wb", "b4"),
        n("Conv", "r ws bs", "s4"), n("Reshape", "b4 four", "b3"), n("Reshape", "s4 three", "s3"),
    ]  # fmt: skip
    if decoding == "anchors":
        nodes += [n("Mul", "b3 strides", "b2"), n("Add", "b2 anchors", "boxes"), n("Sigmoid", "s3", "scores")]
    elif decoding == "chosen":
        nodes += [n("Exp", "b3", "e"), n("Mul", "e anchors", "boxes"), n("Sigmoid", "s3", "scores")]
    else:
        constants |= {"anchors": np.zeros(0), "strides": np.zeros(0)}
        nodes += [n("Identity", "b3", "boxes"), n("Sigmoid" if decoding == "plain" else "Identity", "s3", "scores")]
    nodes.append(n("Concat", "boxes scores", "y", axis=1))
    if decoding == "chosen":
        nodes.append(n("TopK", "scores ten", "best places", axis=2))
    return graph_of(nodes, constants, outputs="y best" if decoding == "chosen" else "y", opset=18)


def images(count: int, seed: int = 1) -> Array:
    """Inputs of a detector."""
    return np.random.default_rng(seed).normal(size=(count, 3, 8, 8)).astype(np.float32)
