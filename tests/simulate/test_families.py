"""What is not a convolution: what of each family is integer, why the rest is not, and both runtimes as simulated."""

from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter

from edgeq.calibration.nearest import nearest
from edgeq.calibration.ranges import observe
from edgeq.exporters import onnx as onnx_format
from edgeq.exporters import tflite as tflite_format
from edgeq.graph.execute import to_torch
from edgeq.graph.graph import Graph
from edgeq.plan.rules import Request, decide
from edgeq.simulate import IntegerSimulation
from edgeq.simulate.kernels import family

from ..graphs import Array, graph_of, n, weights

TOKENS = (1, 6, 8)


def attention() -> Graph:
    """Products of two activations, a softmax, a residual."""
    constants = weights(q=(8, 8), k=(8, 8), v=(8, 8)) | {"scale": np.array(0.35, np.float32)}
    nodes = [
        n("MatMul", "x q", "xq"), n("MatMul", "x k", "xk"), n("MatMul", "x v", "xv"), n("Mul", "xq scale", "s"),
        n("Transpose", "xk", "t", perm=[0, 2, 1]), n("MatMul", "s t", "p"), n("Softmax", "p", "a", axis=-1),
        n("MatMul", "a xv", "c"), n("Add", "c xv"),
    ]  # fmt: skip
    return graph_of(nodes, constants, TOKENS)


def layer_norm_mlp() -> Graph:
    """A normalization between two layers, a GELU."""
    constants = weights(a=(8, 16), g=(16,), h=(16,), b=(16, 8))
    nodes = [n("MatMul", "x a", "m"), n("LayerNormalization", "m g h", "l", axis=-1), n("Gelu", "l", "e")]
    return graph_of([*nodes, n("MatMul", "e b")], constants, TOKENS)


def embedding() -> Graph:
    """A table of constants, of which rows are taken by computed indices."""
    constants = weights(table=(16, 8), w=(8, 8), b=(8, 4))
    nodes = [
        n("MatMul", "x w", "m"), n("ArgMax", "m", "i", axis=2, keepdims=0), n("Gather", "table i", "e"),
        n("MatMul", "e b"),
    ]  # fmt: skip
    return graph_of(nodes, constants, TOKENS)


def recurrent(op: str, gates: int) -> Graph:
    """A layer, a recurrent cell over six steps, a layer."""
    constants = weights(a=(8, 8), w=(1, gates * 8, 8), r=(1, gates * 8, 8), b=(8, 4)) | {"one": np.array([1])}
    nodes = [
        n("MatMul", "x a", "m"), n("Transpose", "m", "t", perm=[1, 0, 2]), n(op, "t w r", "s", hidden_size=8),
        n("Squeeze", "s one", "q"), n("MatMul", "q b"),
    ]  # fmt: skip
    return graph_of(nodes, constants, TOKENS)


@pytest.mark.parametrize(
    ("build", "floats", "reason"),
    [
        (attention, set(), ""),
        (layer_norm_mlp, {"LayerNormalization"}, "LayerNormalization has no integer kernel in ONNX Runtime or LiteRT"),
        (embedding, {"ArgMax", "Gather"}, "nothing before it is integer"),
        (lambda: recurrent("LSTM", 4), {"LSTM"}, "LSTM has no integer kernel in ONNX Runtime or LiteRT"),
        (lambda: recurrent("GRU", 3), {"GRU"}, "GRU has no integer kernel in ONNX Runtime or LiteRT"),
    ],
    ids=["attention", "layer-norm-mlp", "embedding", "lstm", "gru"],
)
def test_a_family_in_both_runtimes(build: Callable[[], Graph], floats: set[str], reason: str) -> None:
    graph = build()
    x = np.random.default_rng(1).normal(size=(24, 1, *TOKENS[1:])).astype(np.float32)
    batches = [(torch.from_numpy(each),) for each in x]
    module, skeleton = to_torch(graph), decide(graph, Request())
    left = {unit.op: unit.reason for unit in skeleton.units if not unit.integer}
    assert floats <= left.keys()
    assert reason in left.values() or not reason
    assert any(unit.integer and unit.weight is not None for unit in skeleton.units)
    plan = nearest(graph, skeleton, observe(module, batches, skeleton))
    real = np.concatenate([module(*batch).numpy().reshape(1, -1) for batch in batches])
    step = float(np.ptp(real)) / 255
    for kernels, run in (("onnxruntime", _onnxruntime), ("xnnpack", _litert)):
        simulation = IntegerSimulation(graph, plan, family(kernels))
        simulated = np.concatenate([simulation(*batch).numpy().reshape(1, -1) for batch in batches])
        deployed = run(graph, plan, x)
        # The float part differs by its order of additions: now and then a code falls on the other side of a tie, and
        # behind it a few outputs move by a step of the grid.
        assert np.mean(np.abs(deployed - simulated) > step / 2) < 0.02
        assert np.abs(deployed - simulated).max() < 3 * step
        # The median, for where two logits are next to equal another row of the table is taken.
        assert np.median(np.abs(deployed - real)) < 0.05 * real.std()


def _onnxruntime(graph: Graph, plan: object, x: Array) -> Array:
    data = onnx_format.export(graph, plan)  # type: ignore[arg-type]
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"x": each})[0].reshape(1, -1) for each in x])


def _litert(graph: Graph, plan: object, x: Array) -> Array:
    built = tflite_format.build(graph, plan, io="float32")  # type: ignore[arg-type]
    runner = Interpreter(model_content=built.data, num_threads=1).get_signature_runner("serving_default")
    back = np.argsort(built.layouts["y"])
    feeds = (np.ascontiguousarray(each.transpose(built.layouts["x"])) for each in x)
    return np.concatenate([runner(x=feed)["y"].transpose(back).reshape(1, -1) for feed in feeds])
