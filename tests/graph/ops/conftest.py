"""One node through ONNX Runtime, with its graph optimizations off, and through the op table."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper

from edgeq.graph.execute import as_tensor, to_torch
from edgeq.graph.graph import Graph

Array = npt.NDArray[Any]
Compare = Callable[..., None]

# Both sides compute in float32 and add up in different orders: about a hundred roundings of 6e-8 of the largest term.
TOLERANCE = 1e-5


@pytest.fixture(scope="session")
def agrees() -> Compare:
    """Assert that an op gives what ONNX Runtime gives; see :func:`_assert_agrees`."""
    return _assert_agrees


def _assert_agrees(
    op: str,
    inputs: Sequence[Array | None],
    *,
    constant: Collection[int] = (),
    outputs: int = 1,
    opset: int = 17,
    domain: str = "",
    steps: int | None = None,
    tolerance: float = TOLERANCE,
    named: Mapping[str, Any] | None = None,
    **attributes: Any,
) -> None:
    """Compare one node on both sides.

    Args:
        op: the op type.
        inputs: one array for each input; None for an omitted one.
        constant: positions of inputs that are initializers.
        outputs: how many outputs the node has.
        opset: version of the standard.
        domain: the op's domain.
        steps: results are integer codes that may differ by so many steps; None for floats.
        tolerance: relative to the largest number of the result.
        named: attributes whose names clash with these arguments.
        attributes: the node's attributes.
    """
    model = _model(op, inputs, constant, outputs, opset, domain, attributes | dict(named or {}))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    feed = {f"x{k}": array for k, array in enumerate(inputs) if array is not None and k not in constant}
    expected = session.run(None, feed)
    before = {key: array.copy() for key, array in feed.items()}
    with torch.no_grad():
        result = to_torch(Graph(ir.from_proto(model)))(*(as_tensor(array) for array in feed.values()))
    for got, want in zip(result if isinstance(result, tuple) else (result,), expected, strict=True):
        _assert_equal(got.numpy(), np.asarray(want), steps, tolerance)
    for key, array in feed.items():
        np.testing.assert_array_equal(array, before[key])


def _assert_equal(got: Array, want: Array, steps: int | None, tolerance: float) -> None:
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    if steps is not None:
        assert np.abs(got.astype(np.int64) - want.astype(np.int64)).max(initial=0) <= steps
    elif want.dtype.kind == "f":
        largest = np.abs(want[np.isfinite(want)]).max(initial=1.0)
        np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * largest)
    else:
        np.testing.assert_array_equal(got, want)


def _model(
    op: str,
    inputs: Sequence[Array | None],
    constant: Collection[int],
    outputs: int,
    opset: int,
    domain: str,
    attributes: dict[str, Any],
) -> onnx.ModelProto:
    names = ["" if array is None else f"x{k}" for k, array in enumerate(inputs)]
    results = [f"y{k}" for k in range(outputs)]
    node = helper.make_node(op, names, results, name="node", domain=domain, **attributes)
    present = [(k, array) for k, array in enumerate(inputs) if array is not None]
    graph = helper.make_graph(
        [node],
        "one_node",
        [
            helper.make_tensor_value_info(f"x{k}", helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for k, array in present
            if k not in constant
        ],
        [helper.make_empty_tensor_value_info(result) for result in results],
        [numpy_helper.from_array(array, f"x{k}") for k, array in present if k in constant],
    )
    imports = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=imports, ir_version=9)
