"""Graphs of one op, an integer plan for them, and LiteRT to run the written files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import torch
from ai_edge_litert import interpreter as litert
from onnx import TensorProto, helper, numpy_helper

from edgeq.calibration.nearest import nearest
from edgeq.calibration.ranges import observe
from edgeq.exporters.tflite import Export
from edgeq.exporters.tflite.narrow import entry_grid
from edgeq.graph.execute import named_outputs, to_torch
from edgeq.graph.graph import Graph, name
from edgeq.graph.passes import clean
from edgeq.plan import rules
from edgeq.plan.bits import Bits
from edgeq.plan.plan import Plan, Skeleton
from edgeq.plan.units import group

Array = npt.NDArray[Any]
DEFAULT = litert.OpResolverType.AUTO
REFERENCE = litert.OpResolverType.BUILTIN_REF
KERNELS = (DEFAULT, REFERENCE)


@dataclass(frozen=True)
class Case:
    """One op with its arguments.

    Attributes:
        op: ONNX op type.
        shapes: of its float inputs, the first of which are computed.
        attributes: of the node.
        constants: position among the inputs -> array.
        then: an activation behind it: "Relu", or (low, high) of a Clip.
        outputs: how many it has.
        opset: of the model.
        steps: how many output steps the integer result may differ from the rounded real one.
        skipped: positions among the inputs that are omitted.
        positive: whether its inputs are positive.
        reach: between which bounds its inputs lie, evenly spread.
        tolerance: of the float result, relative and absolute.
        kernels: the kernel families of LiteRT that have the op.
    """

    op: str
    shapes: tuple[tuple[int, ...], ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    constants: Mapping[int, Array] = field(default_factory=dict)
    then: str | tuple[float, float] | None = None
    outputs: int = 1
    opset: int = 18
    steps: int = 1
    skipped: tuple[int, ...] = ()
    positive: bool = False
    reach: tuple[float, float] | None = None
    tolerance: float = 2e-5
    kernels: tuple[Any, ...] = KERNELS


def graph_of(case: Case) -> Graph:
    """The canonical graph of a case."""
    computed = [f"x{i}" for i in range(len(case.shapes))]
    inputs: list[str] = []
    while computed or any(position >= len(inputs) for position in case.constants):
        position = len(inputs)
        if position in case.constants:
            inputs.append(f"c{position}")
        else:
            inputs.append(computed.pop(0) if computed and position not in case.skipped else "")
    outputs = [f"y{i}" for i in range(case.outputs)]
    nodes = [helper.make_node(case.op, inputs, outputs, name="op", **case.attributes)]
    initializers = [numpy_helper.from_array(array, f"c{key}") for key, array in case.constants.items()]
    if case.then is not None:
        nodes[0].output[0] = "inner"
        if case.then == "Relu":
            nodes.append(helper.make_node("Relu", ["inner"], ["y0"], name="relu"))
        else:
            low, high = case.then
            initializers += [numpy_helper.from_array(np.float32(b), n) for b, n in ((low, "low"), (high, "high"))]
            nodes.append(helper.make_node("Clip", ["inner", "low", "high"], ["y0"], name="clip"))
    return graph_from(nodes, case.shapes, outputs, initializers, case.opset)


def graph_from(
    nodes: Sequence[onnx.NodeProto],
    shapes: Sequence[Sequence[int]],
    outputs: Sequence[str],
    initializers: Sequence[TensorProto] = (),
    opset: int = 18,
) -> Graph:
    """A canonical graph of nodes on float inputs x0, x1, ..."""
    proto = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(f"x{i}", TensorProto.FLOAT, shape) for i, shape in enumerate(shapes)],
        [helper.make_empty_tensor_value_info(output) for output in outputs],
        list(initializers),
    )
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return clean(Graph(ir.from_proto(onnx.shape_inference.infer_shapes(model))))


def samples(
    graph: Graph, positive: bool = False, seed: int = 0, reach: tuple[float, float] | None = None
) -> tuple[torch.Tensor, ...]:
    """Normal numbers for every input."""
    random = np.random.default_rng(seed)
    if reach is not None:
        shapes = [tuple(value.shape.numpy()) for value in graph.inputs]
        return tuple(torch.from_numpy(random.uniform(*reach, size=shape).astype(np.float32)) for shape in shapes)
    arrays = [random.normal(0.2, 1.5, size=tuple(value.shape.numpy())).astype(np.float32) for value in graph.inputs]
    return tuple(torch.from_numpy(np.abs(a) + 0.1 if positive else a) for a in arrays)


def real(graph: Graph, inputs: tuple[torch.Tensor, ...]) -> dict[str, Array]:
    """What the graph computes in PyTorch."""
    with torch.no_grad():
        return {k: v.numpy() for k, v in named_outputs(graph, to_torch(graph)(*inputs)).items()}


def integer_plan(
    graph: Graph, inputs: tuple[torch.Tensor, ...], bits: Bits | None = None, per_channel: bool = True
) -> Plan:
    """A plan in which every unit is integer."""
    bits = bits or Bits(8, 8)
    units = tuple(replace(unit, integer=True, reason="asked") for unit in group(graph))
    by_name = {unit.name: bits for unit in units}
    groups = rules._groups(graph, units)
    skeleton = Skeleton(
        units=units,
        bits=by_name,
        groups=groups,
        fixed=rules._fixed(units, groups, by_name),
        clamps=rules._clamps(units, groups),
        per_channel=per_channel,
        symmetric=bits.activations == 16,
    )
    return nearest(graph, skeleton, observe(to_torch(graph), [inputs], skeleton))


def with_plan_constants(graph: Graph, plan: Plan) -> Graph:
    """The graph with the real numbers that the plan's weights, biases and constants stand for."""
    changed = graph.clone()
    for unit in plan.units:
        if unit.integer and unit.weight is not None:
            _set(changed, unit.weight, plan.weights[unit.weight].real)
            if unit.bias is not None:
                shape = changed.constant(unit.bias).shape
                _set(changed, unit.bias, plan.biases[unit.name].real.reshape(shape))
    for key, constant in plan.constants.items():
        _set(changed, key, constant.real)
    return Graph(changed.model)


def _set(graph: Graph, value: str, array: Array) -> None:
    graph.value(value).const_value = ir.tensor(array.astype(np.float32), name=value)


def run(export: Export, feeds: Mapping[str, Array], kernels: Any = DEFAULT) -> dict[str, Array]:
    """Run a file in LiteRT; inputs and outputs in the graph's own layout, codes as they are."""
    interpreter = litert.Interpreter(model_content=export.data, num_threads=1, experimental_op_resolver_type=kernels)
    interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner()
    turned = {key: np.ascontiguousarray(array.transpose(export.layouts[key])) for key, array in feeds.items()}
    found = runner(**turned)
    return {key: array.transpose(np.argsort(export.layouts[key])) for key, array in found.items()}


def operators(export: Export, kernels: Any = DEFAULT) -> list[str]:
    """What LiteRT executes: TFLite ops, and DELEGATE for those that XNNPACK took."""
    interpreter = litert.Interpreter(model_content=export.data, num_threads=1, experimental_op_resolver_type=kernels)
    interpreter.allocate_tensors()
    return [operator["op_name"] for operator in interpreter._get_ops_details()]


def codes(plan: Plan, graph: Graph, inputs: tuple[torch.Tensor, ...]) -> dict[str, Array]:
    """The inputs as codes."""
    result = {}
    for value, tensor in zip(graph.inputs, inputs, strict=True):
        grid = entry_grid(plan.activations[name(value)])
        result[name(value)] = grid.quantize(tensor.numpy()).astype(np.int16 if grid.bits == 16 else np.int8)
    return result
