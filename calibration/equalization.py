"""Cross-layer equalization: move scale between neighbouring layers so that their channels need one grid alike.

For a channel i between layers 1 and 2 with a positively homogeneous function between them (none, or ReLU), with r1_i,
r2_i the largest weights of that channel:

    s_i = sqrt(r1_i / r2_i),    W1_i /= s_i,   b1_i /= s_i,   W2_i *= s_i

which gives both sqrt(r1_i r2_i). Repeated over all pairs until nothing moves, since layers of a depthwise chain are
second of one pair and first of the next. The float function stays the same.

A ReLU6 is homogeneous only below its bound. A channel that reaches the bound on the samples stays as it is; one that
does not may grow until it nearly would, so that the function on the samples stays the same. That needs each channel's
largest value (:func:`highest`); without it a pair with a bound is refused.

Nagel, van Baalen, Blankevoort, Welling, "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV
2019. What we changed: they replace a ReLU6 by a ReLU; no channel is moved by more than ``LIMIT``. It serves per-tensor
weights, and the activations' per-tensor grids; with per-channel weights the first layer's scales take up s by
themselves.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
import torch

from edgeq.calibration.pairs import Array, Pair, array, bias, inputs_first, outputs_first, pairs, reaches
from edgeq.graph.graph import Graph

#: The largest factor by which a channel is moved.
LIMIT = 1e3
SWEEPS = 20
#: Up to this part of its bound a channel may come.
NEARLY = 0.9


def highest(graph: Graph, samples: Sequence[tuple[torch.Tensor, ...]]) -> dict[str, Array]:
    """First layer of each pair with a bound -> the largest value of each of its channels on the samples."""
    bounded = [pair.first for pair in pairs(graph, bounded=True) if pair.bound < np.inf]
    return {layer: high for layer, (_, high) in reaches(graph, bounded, samples).items()}


def equalize(graph: Graph, tops: Mapping[str, Array] | None = None) -> Graph:
    """The same function with equalized weights under the same names; the graph itself if no pair is found.

    Args:
        graph: the model.
        tops: of :func:`highest`; without them pairs with a bound are left alone.
    """
    chosen = pairs(graph, bounded=tops is not None)
    if not chosen:
        return graph
    result = graph.clone()
    values: dict[str, ir.Value] = {}
    for layer_name in dict.fromkeys(n for pair in chosen for n in (pair.first, pair.second)):
        weight, added = result.node(layer_name).inputs[1], bias(result.node(layer_name))
        assert weight is not None
        values[layer_name] = weight
        if added is not None:
            values[f"{layer_name}/bias"] = added
    arrays = {key: array(result, value) for key, value in values.items()}
    reached = {key: top.copy() for key, top in (tops or {}).items()}
    for _ in range(SWEEPS):
        moved = [_move(result, pair, arrays, reached) for pair in chosen]
        if max(moved) < 1e-3:
            break
    for key, value in values.items():
        value.const_value = ir.tensor(arrays[key].astype(np.float32), name=value.name)
    return Graph(result.model)


def _move(graph: Graph, pair: Pair, arrays: dict[str, Array], reached: dict[str, Array]) -> float:
    first, second = graph.node(pair.first), graph.node(pair.second)
    out = outputs_first(first, arrays[pair.first])
    into = inputs_first(second, arrays[pair.second])
    r1, r2 = (np.abs(w).reshape(len(w), -1).max(1) for w in (out, into))
    # A dead channel on either side has nothing to share.
    alive = (r1 > 0) & (r2 > 0)
    s = np.where(alive, np.sqrt(np.where(alive, r1, 1.0) / np.where(alive, r2, 1.0)), 1.0)
    s = np.clip(s, 1 / LIMIT, LIMIT)
    if pair.bound < np.inf:
        share = reached[pair.first] / (NEARLY * pair.bound)
        s = np.where(share < 1, np.maximum(s, share), 1.0)
        reached[pair.first] = reached[pair.first] / s
    out /= s.reshape((-1, *[1] * (out.ndim - 1)))
    into *= s.reshape((-1, *[1] * (into.ndim - 1)))
    if f"{pair.first}/bias" in arrays:
        arrays[f"{pair.first}/bias"] /= s
    return float(np.abs(np.log(s)).max(initial=0.0))
