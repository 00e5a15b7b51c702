"""Activations: one TFLite op where there is one, else written out in float."""

import numpy as np

from edgeq.exporters.tflite.emitter import Emitter, Stored, code_dtype
from edgeq.exporters.tflite.ops import fused
from edgeq.exporters.tflite.ops.elementwise import aligned, operand_grid, unary
from edgeq.exporters.tflite.ops.functions import elu as composed_elu
from edgeq.exporters.tflite.ops.functions import function
from edgeq.exporters.tflite.schema import S, options
from edgeq.plan.plan import Unit
from edgeq.plan.quantization import Quantization, per_tensor
from edgeq.simulate.kernels import gate

_STANDALONE = {
    S.ActivationFunctionType.RELU: "RELU",
    S.ActivationFunctionType.RELU6: "RELU6",
    S.ActivationFunctionType.RELU_N1_TO_1: "RELU_N1_TO_1",
}


def clip(e: Emitter, unit: Unit) -> None:
    """Relu or Clip that nothing before it could take along -> RELU, RELU6, RELU_N1_TO_1 or MAXIMUM and MINIMUM."""
    value, result = e.data(unit), unit.outputs[0]
    grid = e.grid_for(unit, result)
    if unit.clamp is None:
        _clip_computed(e, unit)
        return
    form = e.any(value, grid)
    kind, low, high = fused.split_clamp(unit.clamp, None)
    if kind in _STANDALONE:
        more = bool(np.isfinite([low, high]).any())
        target = e.make(result, grid, form.shape, form.order, "relu" if more else "")
        e.writer.operator(_STANDALONE[kind], [form.tensor], [target])
        if more:
            fused.clamp(e, result, target, e.make(result, grid, form.shape, form.order), grid, low, high)
    elif np.isfinite([low, high]).any():
        fused.clamp(e, result, form.tensor, e.make(result, grid, form.shape, form.order), grid, low, high)
    else:
        e.define(result, form)


def _clip_computed(e: Emitter, unit: Unit) -> None:
    source = e.any(e.data(unit), None)
    tensor = source.tensor
    bounds = [(code, e.argument(unit, position)) for code, position in (("MAXIMUM", 1), ("MINIMUM", 2))]
    present = [(code, bound) for code, bound in bounds if bound is not None]
    for index, (code, bound) in enumerate(present):
        last = index == len(present) - 1
        limit = e.read(bound, None, (1,), (), f"Clip {unit.name!r}")
        result = unit.outputs[0]
        target = e.make(result, None, source.shape, source.order, "" if last else "raised")
        e.writer.operator(code, [tensor, limit], [target], options("MaximumMinimum"))
        tensor = target


def leaky_relu(e: Emitter, unit: Unit) -> None:
    """LeakyRelu -> LEAKY_RELU."""
    unary("LEAKY_RELU", "LeakyRelu", e, unit, alpha=float(e.attributes(unit).get("alpha", 0.01)))


def gelu(e: Emitter, unit: Unit) -> None:
    """Gelu -> GELU."""
    unary("GELU", "Gelu", e, unit, approximate=e.attributes(unit).get("approximate", "none") == "tanh")


def elu(e: Emitter, unit: Unit) -> None:
    """Elu -> ELU."""
    if float(e.attributes(unit).get("alpha", 1.0)) != 1.0:
        if unit.integer:
            raise e.refuse(unit, "alpha other than 1 on codes")
        function(composed_elu)(e, unit)
        return
    unary("ELU", None, e, unit)


def prelu(e: Emitter, unit: Unit) -> None:
    """PRelu -> PRELU; an integer unit's slope is put on a symmetric 8-bit grid of its own."""
    value, slope, result = e.data(unit), e.argument(unit, 1), unit.outputs[0]
    grid = e.grid_for(unit, value)
    array = e.static(unit, 1)
    assert slope is not None
    assert array is not None
    permutation = e.axes(value, grid)
    rank = len(permutation)
    source = e.read_permuted(value, grid, permutation, f"PRelu {unit.name!r}")
    padded = array.reshape((1,) * (rank - array.ndim) + array.shape).transpose(permutation).astype(np.float32)
    padded = padded.reshape(padded.shape[1:]) if padded.shape[0] == 1 and rank > 1 else padded
    slope_grid = None
    if grid is not None:
        slope_grid = symmetric(padded)
        padded = slope_grid.quantize(padded).astype(np.int8)
    tensor = e.writer.constant(slope, padded, slope_grid)
    with e.made(result, e.grid_for(unit, result), *e.permuted(result, permutation)) as target:
        e.writer.operator("PRELU", [source, tensor], [target])


def symmetric(array: np.ndarray) -> Quantization:
    """The symmetric 8-bit grid that reaches the largest magnitude of an array."""
    reach = float(np.abs(array).max(initial=0.0))
    return per_tensor(reach / 127 if reach > 0 else 1.0, 0, 8, narrow=True)


def hard_sigmoid(e: Emitter, unit: Unit) -> None:
    """HardSigmoid = clip(alpha x + beta, 0, 1) -> MUL, ADD and the clamp."""
    result = unit.outputs[0]
    attributes = e.attributes(unit)
    alpha, beta = float(attributes.get("alpha", 0.2)), float(attributes.get("beta", 0.5))
    grid, form = e.grid_for(unit, result), e.any(e.data(unit), e.grid_for(unit, e.data(unit)))
    more = bool(np.isfinite(fused.split_clamp((0.0, 1.0), grid)[1:]).any())
    target = e.make(result, grid, form.shape, form.order, "sum" if more else "")
    low, high = _opened(e, form, target, grid, alpha, beta, result)
    if more:
        fused.clamp(e, result, target, e.make(result, grid, form.shape, form.order), grid, low, high)


def hard_swish(e: Emitter, unit: Unit) -> None:
    """HardSwish -> HARD_SWISH in float; on codes MUL, ADD and MUL (``simulate/kernels/gate.py``)."""
    if not unit.integer:
        unary("HARD_SWISH", "HardSwish", e, unit)
        return
    value, result = e.data(unit), unit.outputs[0]
    form = e.any(value, e.grid(value))
    grid = gate.gate_grid(e.grid(value).bits)
    opened = e.step(form.tensor, f"{result}::gate", form.shape, grid)
    _opened(e, form, opened, grid, gate.SLOPE, gate.SHIFT, result)
    with e.made(result, e.grid(result), form.shape, form.order) as target:
        e.writer.operator("MUL", [form.tensor, opened], [target], options("Mul"))


def _opened(
    e: Emitter, form: Stored, target: int, grid: Quantization | None, alpha: float, beta: float, label: str
) -> tuple[float, float]:
    """Alpha x + beta, cut to [0, 1] as far as the op itself can; the bounds that are left to do.

    In integers the product by alpha keeps the codes of x and changes the scale alone, so only the sum rounds.
    """
    scaled_grid = None if form.grid is None else gate.scaled(form.grid, alpha)
    product = e.step(form.tensor, f"{label}::scaled", form.shape, scaled_grid)
    e.writer.operator("MUL", [form.tensor, _number(e, alpha, form.grid)], [product], options("Mul"))
    kind, low, high = fused.split_clamp((0.0, 1.0), grid)
    option = options("Add", potScaleInt16=False, fusedActivationFunction=kind)
    e.writer.operator("ADD", [product, _number(e, beta, form.grid)], [target], option)
    return low, high


def _number(e: Emitter, number: float, grid: Quantization | None) -> int:
    if grid is None:
        return e.writer.constant("number", np.full((1,), number, np.float32))
    own = gate.number(number, 16 if grid.bits == 16 else 8)  # both operands of an op have one type
    return e.writer.constant("number", own.quantize(np.full((1,), number, np.float32)).astype(code_dtype(own)), own)


__all__ = [
    "aligned", "clip", "elu", "gelu", "hard_sigmoid", "hard_swish", "leaky_relu", "operand_grid", "prelu", "symmetric",
]  # fmt: skip
