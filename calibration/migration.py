"""Uneven channels: move scale between an activation and the weights beside it, so that one grid serves all channels.

A transformer's residual stream has a few channels a hundred times larger than the rest (Dettmers et al., 2022,
LLM.int8()); on one grid for the tensor the rest rounds to a few codes. Two places are mended, both exactly: all factors
are powers of two, so that the float function stays the same to the last bit.

- *Outputs*: an integer layer's output that only float ops read (the sum before a LayerNormalization). Its weight's rows
  and bias are divided by f, and a Mul by f in float gives the channels back their size: the grid then serves f_c y_c.
- *Inputs*: a float op's result that matrix products read. It is divided by s and their weights' columns multiplied by
  it:  X W = (X / s)(s W),  s_j = max|X_j|^a / max|W_j|^(1-a).  The exponent a is the one of ``EXPONENTS`` of least
  squared error of the products on samples. The division goes into a LayerNormalization's scale where nothing else reads
  it, else it is a Mul in float before the quantization.

Xiao, Lin, Seznec, Wu, Demouth, Han, "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language
Models", ICML 2023. What we changed: the outputs; powers of two; the exponent of each value, not of the model.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch

from edgeq.graph.execute import iterate_values, to_torch
from edgeq.graph.graph import Graph, name
from edgeq.graph.passes.fold_batchnorm import output_axis
from edgeq.plan.ops import IN_BLOCKS, channel_axis
from edgeq.plan.plan import Skeleton, Unit
from edgeq.plan.quantization import affine_from_range

Array = npt.NDArray[np.float64]
#: Numbers of a weight that are looked at.
_MOST_NUMBERS = 1 << 23
Samples = Iterable[tuple[torch.Tensor, ...]]

#: Outputs are mended where their mean squared error falls to this part, inputs where their products' does.
OUTPUTS_WORTH, INPUTS_WORTH = 0.25, 0.6
EXPONENTS = (0.25, 0.5, 0.75, 1.0)
#: No channel is scaled by more.
_MOST = 2.0**12
#: Activations of so many bits hold uneven channels as they are.
_FINE = 16
#: Rows of an input that exponents are compared on.
_ROWS = 256


@dataclass(frozen=True, eq=False)
class Migration:
    """One value whose channels are evened out.

    Attributes:
        value: its name.
        factors: powers of two (channels,): what the channels are multiplied by before they are quantized.
        units: the layer that makes it, or those that read it.
        output: whether it is a layer's output.
        worth: the part of the squared error that is left.
    """

    value: str
    factors: Array
    units: tuple[Unit, ...]
    output: bool
    worth: float


def migrations(graph: Graph, skeleton: Skeleton, samples: Samples) -> tuple[Migration, ...]:
    """What is worth mending, in the order of the values.

    Args:
        graph: the model.
        skeleton: what is integer.
        samples: inputs in the order of the graph's inputs, batch by batch.
    """
    if not skeleton.per_channel:
        return ()  # weights with one scale would take the unevenness over
    made, read = _outputs(graph, skeleton), _inputs(graph, skeleton)
    seen = _seen(graph, samples, {**{v: channel_axis(u.op) for v, u in made.items()}, **dict.fromkeys(read, -1)})
    found = [_of_output(value, unit, seen[value]) for value, unit in made.items() if value in seen]
    found += [_of_input(graph, skeleton, value, units, seen[value]) for value, units in read.items() if value in seen]
    return tuple(each for each in found if each is not None)


def migrated(graph: Graph, found: Iterable[Migration]) -> tuple[Graph, dict[str, str]]:
    """The same function with evened channels, and the nodes that this added with the reason why they are float."""
    result = Graph(graph.clone().model)
    added: dict[str, str] = {}
    for each in found:
        for unit in each.units:
            _scale_weight(result, unit, each)
        if each.output or not _into_norm(result, each):
            added[_insert(result, each)] = (
                f"gives the channels of {each.value!r} back their size: they are too uneven for one grid"
                if each.output
                else f"evens out the channels of {each.value!r}, which are too uneven for one grid"
            )
    return Graph(result.model), added


def _outputs(graph: Graph, skeleton: Skeleton) -> dict[str, Unit]:
    on_codes = {value for unit in skeleton.units if unit.integer for value in unit.inputs}
    return {
        unit.outputs[0]: unit
        for unit in skeleton.units
        if _scalable(graph, unit)
        and _coarse(skeleton, unit)
        and unit.op != "ConvTranspose"
        and unit.outputs[0] not in on_codes
        and not graph.is_output(unit.outputs[0])
        and unit.clamp in (None, (0.0, np.inf))
    }


def _inputs(graph: Graph, skeleton: Skeleton) -> dict[str, tuple[Unit, ...]]:
    by_codes = {value for unit in skeleton.units if unit.integer for value in unit.outputs}
    readers: dict[str, list[Unit]] = {}
    for unit in skeleton.units:
        for value in unit.inputs if unit.integer else ():
            readers.setdefault(value, []).append(unit)
    shared = [skeleton.groups[value] for value in skeleton.groups]
    return {
        value: tuple(units)
        for value, units in readers.items()
        if value not in by_codes
        and graph.constant(value) is None
        and all(unit.op in IN_BLOCKS and _coarse(skeleton, unit) and _scalable(graph, unit) for unit in units)
        and shared.count(skeleton.groups[value]) == 1
    }


def _scalable(graph: Graph, unit: Unit) -> bool:
    """Whether an integer unit has a weight and bias of its own."""
    constants = [value for value in (unit.weight, unit.bias) if value is not None]
    return unit.integer and unit.weight is not None and all(len(graph.consumers(value)) == 1 for value in constants)


def _coarse(skeleton: Skeleton, unit: Unit) -> bool:
    return (skeleton.bits[unit.name].activations or _FINE) < _FINE


@dataclass(eq=False)
class _Seen:
    """The largest magnitude of each channel, and some rows of channels."""

    largest: Array
    rows: Array


def _seen(graph: Graph, samples: Samples, axes: Mapping[str, int]) -> dict[str, _Seen]:
    found: dict[str, _Seen] = {}
    module = to_torch(graph)
    with torch.inference_mode():
        for batch in samples if axes else ():
            for value, tensor in iterate_values(module, batch, frozenset(axes)):
                last = tensor.movedim(axes[value], -1).reshape(-1, tensor.shape[axes[value]]).double().numpy()
                largest, step = np.abs(last).max(0), max(1, len(last) // _ROWS)
                if value not in found:
                    found[value] = _Seen(largest, last[::step][:_ROWS].copy())
                found[value].largest = np.maximum(found[value].largest, largest)
    return found


def _of_output(value: str, unit: Unit, seen: _Seen) -> Migration | None:
    top = float(seen.largest.max())
    if top == 0.0:
        return None
    # Rounded down, so that no channel grows beyond the largest.
    factors = 2.0 ** np.floor(np.log2(np.minimum(top / np.maximum(seen.largest, top / _MOST), _MOST)))
    worth = float((1 / factors**2).mean())
    return Migration(value, factors, (unit,), True, worth) if worth < OUTPUTS_WORTH else None


def _of_input(graph: Graph, skeleton: Skeleton, value: str, units: tuple[Unit, ...], seen: _Seen) -> Migration | None:
    matrices = [_inputs_first(graph, unit) for unit in units]
    bits = [(skeleton.bits[u.name].activations or 8, skeleton.bits[u.name].weights or 8) for u in units]
    reach = np.max([np.abs(matrix).max(1) for matrix in matrices], axis=0)
    alive = (seen.largest > 0) & (reach > 0)
    if not alive.any():
        return None
    plain = _error(seen, matrices, bits, np.ones(len(reach)))
    best, least = None, plain
    for exponent in EXPONENTS:
        wanted = np.where(alive, seen.largest, 1.0) ** exponent / np.where(alive, reach, 1.0) ** (1 - exponent)
        logs = np.where(alive, np.log2(wanted), 0.0)
        logs = np.where(alive, logs - np.median(logs[alive]), 0.0)
        factors = 2.0 ** -np.rint(np.clip(logs, -np.log2(_MOST), np.log2(_MOST)))
        error = _error(seen, matrices, bits, factors)
        if error < least:
            best, least = factors, error
    if best is None or least > INPUTS_WORTH * plain:
        return None
    return Migration(value, best, units, False, least / plain)


def _error(seen: _Seen, matrices: list[Array], bits: list[tuple[int, int]], factors: Array) -> float:
    """Squared error of the products with these factors, relative to the products, summed over the readers."""
    scaled, top = seen.rows * factors, seen.largest * factors
    total = 0.0
    for matrix, (activation_bits, weight_bits) in zip(matrices, bits, strict=True):
        low, high = min(float(scaled.min()), 0.0), max(float(scaled.max()), 0.0)
        widest = float(top.max()) / max(-low, high, 1e-30)
        grid = affine_from_range(low * widest, high * widest, activation_bits)
        x = grid.dequantize(grid.quantize(scaled)).astype(np.float64)
        weight = matrix / factors[:, None]
        step = np.maximum(np.abs(weight).max(0), 1e-30) / (2 ** (weight_bits - 1) - 1)
        error = x @ (np.rint(weight / step) * step) - seen.rows @ matrix
        total += float((error**2).mean() / max(float(((seen.rows @ matrix) ** 2).mean()), 1e-30))
    return total


def _inputs_first(graph: Graph, unit: Unit) -> Array:
    """The weight as (inputs, outputs); of a very large one every n-th output, which tell the same of its inputs."""
    weight = np.asarray(graph.constant(unit.weight or ""))
    weight = weight if output_axis(graph.node(unit.name)) == 1 else weight.T
    return weight[:, :: max(1, weight.size // _MOST_NUMBERS)].astype(np.float64)


def _scale_weight(graph: Graph, unit: Unit, each: Migration) -> None:
    axis = output_axis(graph.node(unit.name))
    weight = np.asarray(graph.constant(unit.weight or ""))
    if each.output:
        _set(graph, unit.weight, weight * _along(each.factors, axis, weight.ndim))
        if unit.bias is not None:
            bias = np.asarray(graph.constant(unit.bias))
            _set(graph, unit.bias, np.broadcast_to(bias.reshape(-1), each.factors.shape) * each.factors)
    else:
        _set(graph, unit.weight, weight / _along(each.factors, 1 - axis, weight.ndim))


def _along(factors: Array, axis: int, rank: int) -> Array:
    return factors.reshape([-1 if i == axis % rank else 1 for i in range(rank)])


def _set(graph: Graph, value_name: str | None, array: npt.NDArray[np.floating]) -> None:
    assert value_name is not None
    value = graph.value(value_name)
    value.const_value = ir.tensor(np.ascontiguousarray(array, np.float32), name=value.name)
    value.shape = ir.Shape(array.shape)


def _into_norm(graph: Graph, each: Migration) -> bool:
    """Put the factors into the LayerNormalization that makes the value; False if there is none or others read it."""
    value = graph.value(each.value)
    node = value.producer()
    if node is None or node.op_type != "LayerNormalization" or node.domain or graph.is_output(each.value):
        return False
    readers = {unit.name for unit in each.units}
    constants = [v for v in node.inputs[1:] if v is not None]
    known = all(graph.constant(v) is not None for v in constants)
    if not known or any(name(use.node) not in readers for use in value.uses()):
        return False
    for position, constant in enumerate(constants, 1):
        array = np.broadcast_to(np.asarray(graph.constant(constant)), each.factors.shape) * each.factors
        node.replace_input_with(position, _constant(graph, f"{each.value}_evened_{position}", array))
    return True


def _insert(graph: Graph, each: Migration) -> str:
    """A Mul by the factors (of an output: by their inverse) behind the value; the name of its node."""
    value = graph.value(each.value)
    factors = 1 / each.factors if each.output else each.factors
    rank = 1 if value.shape is None else len(value.shape)
    axis = 1 if each.units[0].op == "Conv" else -1
    shaped = factors.reshape(-1, *[1] * (rank - 2)) if axis == 1 else factors
    node_name = f"{each.value}_rescale"
    node = ir.node("Mul", [value, _constant(graph, f"{node_name}_factors", shaped)], name=node_name)
    result = node.outputs[0]
    result.name, result.type, result.shape = f"{each.value}_rescaled", value.type, value.shape
    readers = {unit.name for unit in each.units}
    for use in tuple(value.uses()):
        if use.node is not node and (each.output or name(use.node) in readers):
            use.node.replace_input_with(use.idx, result)
    maker = value.producer()
    if maker is None:
        graph.model.graph.insert_before(graph.model.graph[0], node)
    else:
        graph.model.graph.insert_after(maker, node)
    return node_name


def _constant(graph: Graph, value_name: str, array: Array) -> ir.Value:
    tensor = ir.tensor(np.ascontiguousarray(array, np.float32), name=value_name)
    value = ir.Value(name=value_name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor)
    graph.model.graph.register_initializer(value)
    return value


__all__ = ["Migration", "migrated", "migrations"]
