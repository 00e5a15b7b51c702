"""A model of tokens decides at each of them: simulation and device are compared so, not by every logit's step."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import edgeq

TOKENS, WIDTH, POSITIONS = 12, 16, 6


def model(folder: Path) -> Path:
    """Embedding, layer and logits of the next token."""
    g = np.random.default_rng(0)
    constants = {"table": (TOKENS, WIDTH), "w1": (WIDTH, WIDTH), "w2": (WIDTH, TOKENS)}
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "x"], ["e"]),
            helper.make_node("MatMul", ["e", "w1"], ["h"]),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("MatMul", ["r", "w2"], ["y"]),
        ],
        "tokens",
        [helper.make_tensor_value_info("x", TensorProto.INT64, ["n", POSITIONS])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", POSITIONS, TOKENS])],
        [numpy_helper.from_array(g.normal(size=s).astype(np.float32), name) for name, s in constants.items()],
    )
    path = folder / "tokens.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def test_decisions_are_compared_token_by_token(tmp_path: Path) -> None:
    g = np.random.default_rng(1)
    x = g.integers(0, TOKENS, size=(80, POSITIONS))
    np.savez(tmp_path / "samples.npz", x=x, y=np.roll(x, -1, 1))
    found = edgeq.convert(
        model(tmp_path),
        tmp_path / "samples.npz",
        device="cpu-onnxruntime",
        output=tmp_path / "release",
        metric="perplexity",
        latency_runs=0,
    )
    (measured,) = found.release.measurements
    assert measured.parity.decisions_agree is not None
    assert measured.parity.decisions_agree > 0.95
    assert measured.deployed.metric == "perplexity"
