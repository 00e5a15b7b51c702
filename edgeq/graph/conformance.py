"""The ONNX standard's own node tests, which ship in the onnx wheel, run through :func:`edgeq.graph.execute.to_torch`.

Every test runs as it is, where all inputs arrive as tensors, and once more with each input that an op takes statically
(shapes, axes, pads ...) turned into a constant, as real models hold it.
"""

import functools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import torch
from onnx import numpy_helper

from edgeq.errors import EdgeqError
from edgeq.graph.execute import as_tensor, to_torch
from edgeq.graph.graph import Graph
from edgeq.graph.ops import OPS
from edgeq.graph.passes.canonicalize import canonicalize
from edgeq.graph.passes.name_everything import name_everything

_EXPANDED = "_expanded"


@dataclass(frozen=True, eq=False)
class Case:
    """One test of the standard.

    Attributes:
        name: the standard's name of it.
        op: (domain, op type) that it tests.
        opset: version of the op's domain that the model imports.
        ops: every (domain, op type) in the model.
        model: the test's model.
        data: pairs of inputs and expected outputs.
        rtol: the standard's relative tolerance.
        atol: the standard's absolute tolerance.
    """

    name: str
    op: tuple[str, str]
    opset: int
    ops: frozenset[tuple[str, str]]
    model: onnx.ModelProto
    data: Sequence[tuple[Sequence[Any], Sequence[Any]]]
    rtol: float
    atol: float

    @property
    def in_scope(self) -> bool:
        """Whether the table holds every op of the model."""
        return self.ops <= OPS.keys()


@functools.cache
def node_cases() -> tuple[Case, ...]:
    """All node tests of the installed onnx, in its order."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the standard computes some references with overflow
        loaded = [case for case in load_model_tests(kind="node") if case.model is not None]
    tested = {case.name: _key(case.model.graph.node[-1]) for case in loaded if _EXPANDED not in case.name}
    return tuple(
        Case(
            name=case.name,
            op=tested.get(case.name.split(_EXPANDED)[0], _key(case.model.graph.node[-1])),
            opset=max(entry.version for entry in case.model.opset_import),
            ops=frozenset(_ops(case.model)),
            model=case.model,
            data=case.data_sets,
            rtol=case.rtol,
            atol=case.atol,
        )
        for case in loaded
    )


def pytorch_cases() -> tuple[Case, ...]:
    """The tests of PyTorch layers that ship with onnx: small graphs of opset 6 with weights."""
    from onnx.backend.test.loader import load_model_tests

    found = []
    for case in (*load_model_tests(kind="pytorch-converted"), *load_model_tests(kind="pytorch-operator")):
        folder = Path(case.model_dir)
        model = onnx.load(folder / "model.onnx")
        data = [
            (_tensors(entry, "input"), _tensors(entry, "output")) for entry in sorted(folder.glob("test_data_set_*"))
        ]
        key, opset = _key(model.graph.node[-1]), model.opset_import[0].version
        found.append(Case(case.name, key, opset, frozenset(_ops(model)), model, data, case.rtol, case.atol))
    return tuple(found)


def _tensors(folder: Path, role: str) -> list[onnx.TensorProto]:
    return [onnx.load_tensor(str(folder / f"{role}_{k}.pb")) for k in range(len(list(folder.glob(f"{role}_*.pb"))))]


def _key(node: onnx.NodeProto) -> tuple[str, str]:
    return ("" if node.domain == "ai.onnx" else node.domain, node.op_type)


def _ops(model: onnx.ModelProto) -> set[tuple[str, str]]:
    return {_key(node) for node in model.graph.node} - {("", "Constant")}


def failure(case: Case, static: bool) -> str | None:
    """Why the test fails, in one line, or None if it passes.

    Args:
        case: the test.
        static: turn the inputs that an op takes statically into constants; without such inputs, nothing is run again.
    """
    if static and not _takes_statically(case.model):
        return None
    for inputs, expected in case.data:
        reason = _failure_on(case, inputs, expected, static)
        if reason is not None:
            return reason
    return None


def _failure_on(case: Case, inputs: Sequence[Any], expected: Sequence[Any], static: bool) -> str | None:
    if any(item is None or isinstance(item, list) for item in (*inputs, *expected)):
        return "a sequence or an optional value among its inputs or outputs"
    try:
        graph, feed = _graph(case.model, [_array(item) for item in inputs], static)
        with torch.no_grad():
            result = to_torch(graph)(*(as_tensor(array) for array in feed))
    except (EdgeqError, RuntimeError, TypeError, ValueError, IndexError, NotImplementedError, AssertionError) as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    results = result if isinstance(result, tuple) else (result,)
    for tensor, array in zip(results, expected, strict=True):
        reason = _difference(tensor, _array(array), case)
        if reason is not None:
            return reason
    return None


def _array(item: Any) -> npt.NDArray[Any]:
    # Tests of types that NumPy lacks hold the serialized tensor.
    array: npt.NDArray[Any] = numpy_helper.to_array(item) if isinstance(item, onnx.TensorProto) else np.asarray(item)
    return array


def _graph(
    model: onnx.ModelProto, inputs: Sequence[npt.NDArray[Any]], static: bool
) -> tuple[Graph, list[npt.NDArray[Any]]]:
    native = ir.from_proto(model)
    baked = _static_inputs(native) if static else set()
    feed = []
    fed = [value for value in native.graph.inputs if value.name not in native.graph.initializers]
    for value, array in zip(fed, inputs, strict=True):
        if value in baked:
            native.graph.inputs.remove(value)
            value.const_value = ir.tensor(array, name=value.name)
            native.graph.initializers.add(value)
        else:
            feed.append(array)
    return name_everything(canonicalize(Graph(native))), feed


def _takes_statically(model: onnx.ModelProto) -> bool:
    names = {value.name for value in model.graph.input}
    return any(
        position < len(node.input) and node.input[position] in names
        for node in model.graph.node
        if _key(node) in OPS
        for position in OPS[_key(node)].static
    )


def _static_inputs(model: ir.Model) -> set[ir.Value]:
    return {
        value
        for value in model.graph.inputs
        if value.uses() and all(use.idx in _static_positions(use.node) for use in value.uses())
    }


def _static_positions(node: ir.Node) -> tuple[int, ...]:
    op = OPS.get((node.domain, node.op_type))
    return op.static if op is not None else ()


def _difference(tensor: torch.Tensor, expected: npt.NDArray[Any], case: Case) -> str | None:
    wanted = as_tensor(expected)
    if tensor.dtype != wanted.dtype:
        return f"type {tensor.dtype}, expected {wanted.dtype}"
    if tensor.shape != wanted.shape:
        return f"shape {tuple(tensor.shape)}, expected {tuple(wanted.shape)}"
    got, want = (_comparable(item) for item in (tensor, wanted))
    if not np.allclose(got, want, rtol=case.rtol, atol=case.atol, equal_nan=True):
        return f"largest difference {np.nanmax(np.abs(got - want)):.3g}"
    return None


def _comparable(tensor: torch.Tensor) -> npt.NDArray[Any]:
    if tensor.dtype == torch.bool:
        tensor = tensor.to(torch.uint8)
    return (
        tensor.to(torch.float64).numpy() if tensor.is_floating_point() else tensor.numpy().astype(object).astype(float)
    )
