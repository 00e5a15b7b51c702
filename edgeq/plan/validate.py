"""The plan's written spec, checked between stages.

1. Every integer unit reads and writes values that have a grid (constants: quantized constants).
2. The values of a group share one grid; a prescribed grid is kept.
3. Weights are symmetric with codes of the asked width; their scales count the output channels.
4. A bias is int32 with scale = input scale x weight scale, to the last bit of float32.
5. The accumulator of every weighted unit fits int32 for any input codes.
6. Where a device takes no other, every scale is a power of two.
7. No float unit is called integer, and every unit has its reason.
"""

import numpy as np

from edgeq.errors import PlanError
from edgeq.graph.graph import Graph
from edgeq.graph.passes.fold_batchnorm import output_axis
from edgeq.plan.plan import Plan, Unit


def validate(graph: Graph, plan: Plan) -> None:
    """Raise PlanError with the first broken rule, naming the unit or value."""
    if plan.skeleton.power_of_two:
        _validate_powers(plan)
    for value, grid in plan.activations.items():
        group = plan.skeleton.groups.get(value)
        if group is None:
            raise PlanError(f"value {value!r} has a grid but belongs to no group")
        if not grid.same_grid(plan.activations[group]):
            raise PlanError(f"value {value!r} and its group {group!r} have different grids")
        fixed = plan.skeleton.fixed.get(group)
        if fixed is not None and not grid.same_grid(fixed):
            raise PlanError(f"value {value!r} does not have the grid that the runtimes prescribe for it")
    for unit in plan.units:
        if not unit.reason:
            raise PlanError(f"unit {unit.name!r} has no reason")
        if unit.integer:
            _validate_tensors(graph, plan, unit)
        if unit.integer and unit.weight is not None:
            _validate_weight(graph, plan, unit)
            _validate_bias(plan, unit)


def _validate_powers(plan: Plan) -> None:
    constants = {**plan.weights, **plan.constants, **plan.biases}
    grids = {**plan.activations, **{value: constant.quantization for value, constant in constants.items()}}
    for value, grid in grids.items():
        if (np.frexp(grid.scale)[0] != 0.5).any():
            raise PlanError(f"{value!r} has a scale that is no power of two")


def _validate_tensors(graph: Graph, plan: Plan, unit: Unit) -> None:
    for value in (*unit.inputs, *unit.outputs):
        known = plan.constants if graph.constant(value) is not None else plan.activations
        if value not in known:
            raise PlanError(f"integer unit {unit.name!r}: value {value!r} has no grid")


def _validate_weight(graph: Graph, plan: Plan, unit: Unit) -> None:
    assert unit.weight is not None
    if unit.weight not in plan.weights:
        raise PlanError(f"integer unit {unit.name!r}: weight {unit.weight!r} has no codes")
    weight = plan.weights[unit.weight]
    original = graph.constant(unit.weight)
    if original is None or weight.codes.shape != original.shape:
        raise PlanError(f"weight {unit.weight!r}: codes {weight.codes.shape} do not fit the graph")
    if (weight.quantization.zero_point != 0).any():
        raise PlanError(f"weight {unit.weight!r} is not symmetric")
    axis = weight.quantization.axis
    if axis is not None and axis != output_axis(graph.node(unit.name)):
        raise PlanError(f"weight {unit.weight!r} has scales along axis {axis}, which is not its output channels")
    asked = plan.skeleton.bits[unit.name].weights
    if weight.quantization.bits != asked:
        raise PlanError(f"weight {unit.weight!r} has {weight.quantization.bits} bits; {asked} were asked")


def _validate_bias(plan: Plan, unit: Unit) -> None:
    assert unit.weight is not None
    if unit.name not in plan.biases:
        raise PlanError(f"integer unit {unit.name!r} has no bias")
    bias, weight, grid = plan.biases[unit.name], plan.weights[unit.weight], plan.activations[unit.inputs[0]]
    expected = np.float32(grid.scale) * weight.quantization.scale
    if bias.quantization.bits != 32 or not np.array_equal(
        np.broadcast_to(expected, bias.quantization.scale.shape), bias.quantization.scale
    ):
        raise PlanError(f"bias of unit {unit.name!r}: its scale is not input scale x weight scale")
    if _largest_accumulator(plan, unit) >= 2**31:
        raise PlanError(f"unit {unit.name!r}: the int32 accumulator can overflow; its weight scale is too small")


def _largest_accumulator(plan: Plan, unit: Unit) -> int:
    assert unit.weight is not None
    weight, grid = plan.weights[unit.weight], plan.activations[unit.inputs[0]]
    zero = int(grid.zero_point)
    reach = max(grid.qmax - zero, zero - grid.qmin)
    axis = weight.quantization.axis or 0
    per_channel = (
        np.abs(np.moveaxis(weight.codes.astype(np.int64), axis, 0)).reshape(weight.codes.shape[axis], -1).sum(1)
    )
    bias = int(np.abs(plan.biases[unit.name].codes.astype(np.int64)).max(initial=0))
    return int(per_channel.max(initial=0)) * reach + bias
