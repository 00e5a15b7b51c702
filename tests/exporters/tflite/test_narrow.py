"""What a file of activations of 2 to 7 bits looks like: no op where int8 kernels hold the grid's ends, and an audit."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgeq.exporters.tflite import Export, audit, build, read
from edgeq.exporters.tflite.reach import reach
from edgeq.graph.graph import Graph
from edgeq.plan.bits import Bits
from edgeq.plan.plan import Plan

from .networks import NETWORKS, Net, detector, residual, sequence, upsampler
from .single_op import codes, integer_plan, run, samples
from .test_audit import _changed
from .test_networks import _delegated_whole

pytestmark = pytest.mark.usefixtures("every_value_narrow")


def chain() -> Graph:
    """Convolutions with ReLU, depthwise, ReLU6, pooling, dense: a mobile classifier in small."""
    net = Net((1, 3, 8, 8))
    x = net.add("Relu", net.conv("x0", 3, 8))
    x = net.add("Relu", net.conv(x, 8, 8, group=8))
    low, high = net.constant(np.array(0, np.float32)), net.constant(np.array(6, np.float32))
    x = net.add("Clip", net.conv(x, 8, 8, 1), low, high)
    x = net.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    x = net.add("Flatten", net.add("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2]))
    logits_of_both_signs = net.constant(np.array([-3, -1, 0, 1, 3], np.float32))
    return net.graph(net.add("Gemm", x, net.weight(5, 32), logits_of_both_signs, transB=1))


def _written(make: Callable[[], Graph], bits: int) -> tuple[Graph, Plan, Export]:
    graph = make()
    plan = integer_plan(graph, samples(graph), Bits(4, bits))
    return graph, plan, build(graph, plan)


def _used(written: Export) -> Counter[str]:
    return Counter(operator.code for operator in read(written.data).operators)


@pytest.mark.parametrize("bits", [2, 3, 4, 7])
def test_only_what_no_int8_kernel_limits_has_an_op_of_its_own(bits: int) -> None:
    _, _, eight = _written(chain, 8)
    graph, plan, written = _written(chain, bits)
    # The input, whose codes a caller may choose, and the logits; not one of the ReLUs and pools.
    assert _used(written) - _used(eight) == Counter({"QUANTIZE": 2})
    assert written.notes == (
        f"activations of {bits} bits lie in int8 and run at its speed; 2 of 8 values are limited to their grid by a "
        "QUANTIZE of their own, the others by what int8 kernels do anyway",
    )
    assert audit(written.data, graph, plan).problems == ()


@pytest.mark.parametrize("make", [chain, residual, sequence, upsampler, detector])
def test_the_delegate_takes_as_much_as_of_8_bits(make: Callable[[], Graph]) -> None:
    assert _delegated_whole(_written(make, 4)[2]) == _delegated_whole(_written(make, 8)[2])


@pytest.mark.parametrize("io", ["int8", "float32"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_file_is_what_the_plan_says(name: str, io: Any) -> None:
    graph = NETWORKS[name]()
    inputs = samples(graph)
    plan = integer_plan(graph, inputs, Bits(4, 4))
    written = build(graph, plan, io=io)
    report = audit(written.data, graph, plan)
    assert report.problems == ()
    assert report.integer_mac_share == 1.0
    file = read(written.data)
    found = run(written, codes(plan, graph, inputs) if io == "int8" else {"x0": inputs[0].numpy()})
    for key, array in found.items():
        grid = plan.activations[key]
        zero = int(file.tensors[file.outputs[key]].zero_point[0]) if io == "int8" else 0
        real = grid.scale * (array.astype(np.int64) - zero) if io == "int8" else array
        # On the grid, not merely on the int8 grid of the same scale.
        np.testing.assert_array_equal(grid.dequantize(grid.quantize(real)), real.astype(np.float32))


def test_input_codes_beyond_the_grid_are_limited() -> None:
    _, plan, written = _written(chain, 4)
    shape = (1, 3, 8, 8)
    entry = int(read(written.data).tensors[read(written.data).inputs["x0"]].zero_point[0])
    assert entry == int(plan.activations["x0"].zero_point) - plan.activations["x0"].qmin - 128
    highest, beyond = (run(written, {"x0": np.full(shape, code, np.int8)}) for code in (-113, 127))
    np.testing.assert_array_equal(highest["v9"], beyond["v9"])
    lowest = run(written, {"x0": np.full(shape, -128, np.int8)})
    assert (lowest["v9"] != highest["v9"]).any()


def test_zero_points_that_have_to_be_zero_stay() -> None:
    graph, plan, _ = _written(chain, 4)
    skeleton = replace(plan.skeleton, symmetric=True)
    grids = {value: replace(grid, zero_point=0 * grid.zero_point) for value, grid in plan.activations.items()}
    symmetric = replace(plan, skeleton=skeleton, activations=grids)
    file = read(build(graph, symmetric).data)
    assert not any(tensor.zero_point.any() for tensor in file.tensors)
    assert audit(build(graph, symmetric).data, graph, symmetric).problems == ()


def _without_relu(model: schema.ModelT) -> None:
    model.subgraphs[0].operators[1].builtinOptions.fusedActivationFunction = schema.ActivationFunctionType.NONE


def _without_limit(model: schema.ModelT) -> None:
    graph = model.subgraphs[0]
    last = graph.operators.pop()
    graph.operators[-1].outputs = last.outputs


@pytest.mark.parametrize(("change", "problem"), [
    (_without_relu, "value 'v1' can hold codes -128 .. 127, and its grid ends at 112 and 127"),
    (_without_limit, "value 'v9' can hold codes -128 .. 127, and its grid ends at 112 and 127"),
])  # fmt: skip
def test_a_value_that_nothing_limits_is_a_problem(change: Callable[[schema.ModelT], None], problem: str) -> None:
    graph, plan, written = _written(chain, 4)
    assert problem in audit(_changed(written.data, change), graph, plan).problems


def test_reach_follows_what_limits_codes() -> None:
    graph, plan, _ = _written(chain, 4)
    symmetric = replace(plan, skeleton=replace(plan.skeleton, symmetric=True))
    file = read(build(graph, symmetric).data)
    by_name = {tensor.name: index for index, tensor in enumerate(file.tensors)}
    assert reach(file, by_name["x0"]) == (-128, 127)
    # MAXIMUM, then MINIMUM, with the ends of the grid.
    assert reach(file, by_name["x0::limited::limit_raised"]) == (-8, 127)
    assert reach(file, by_name["x0::limited"]) == (-8, 7)
