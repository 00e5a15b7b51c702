"""The weight and bias of a unit: codes from the plan, or float numbers from the graph."""

from dataclasses import dataclass
from operator import itemgetter

import numpy as np

from edgeq.errors import PlanError
from edgeq.exporters.tflite.emitter import Array, Emitter
from edgeq.exporters.tflite.schema import options
from edgeq.plan.bits import Bits
from edgeq.plan.plan import Unit
from edgeq.plan.quantization import Quantization, QuantizedConstant

#: Versions of FULLY_CONNECTED that multiply real activations with codes: a scale per channel, or for each block.
_HYBRID, _HYBRID_BLOCKS = 12, 13


@dataclass(frozen=True, eq=False)
class Weights:
    """A weight in the graph's layout, ready to be turned and written.

    Attributes:
        unit: the unit that it belongs to.
        array: int8 codes, or float32.
        grid: of the codes; None if the array is float.
        bias: int32 or int64 codes on ``bias_grid``, or float32; None if there is none.
        bias_grid: its grid.
        channels: how many output channels there are.
    """

    unit: Unit
    array: Array
    grid: Quantization | None
    bias: Array
    bias_grid: Quantization | None

    def write(self, e: Emitter, turned: Array, axis: int, *, packed_int4: bool = False) -> int:
        """Write the weight in the layout of the kernel; ``axis`` counts its output channels there.

        Codes under a float unit are written as they are, with a DEQUANTIZE, which runtimes fold once when loading.
        """
        assert self.unit.weight is not None
        per_channel = self.grid is not None and self.grid.axis is not None
        index = e.writer.constant(
            self.unit.weight, turned, self.grid, axis if per_channel else None, packed_int4=packed_int4
        )
        if self.grid is None or self.unit.integer:
            return index
        real = e.writer.tensor(f"{self.unit.weight}::dequantized", turned.shape, "float32")
        e.writer.operator("DEQUANTIZE", [index], [real], options("Dequantize"))
        return real

    def hybrid_version(self, e: Emitter) -> int | None:
        """The version of FULLY_CONNECTED that takes these codes beside real activations; None if there is none."""
        if self.grid is None or self.unit.integer or self._stored_bits(e) is None:
            return None
        return _HYBRID_BLOCKS if self.grid.block else _HYBRID

    def write_matrix(self, e: Emitter, matrix: Array) -> int:
        """Write the weight of FULLY_CONNECTED, (outputs, inputs).

        Raises:
            PlanError: its scales belong to blocks, and the runtime has no kernel for them.
        """
        assert self.unit.weight is not None
        bits = None if self.grid is None or self.unit.integer else self._stored_bits(e)
        if self.grid is None or bits is None:
            if self.grid is not None and self.grid.block:
                raise PlanError(
                    f"weight {self.unit.weight!r} has scales for blocks of {self.grid.block}, which the TFLite "
                    "kernels of a device do not take; choose a format without blocks"
                )
            four = self.grid is not None and self.grid.bits == 4 and self.unit.integer and e.packed_int4
            return self.write(e, matrix, 0, packed_int4=four)
        if not self.grid.block:
            axis = None if self.grid.axis is None else 0
            return e.writer.constant(self.unit.weight, matrix, self.grid, axis, packed_int4=bits == 4)
        scales = self.grid.scale if self.grid.axis == 1 else self.grid.scale.T
        return e.writer.blocks(self.unit.weight, matrix, scales, self.grid.block)

    def _stored_bits(self, e: Emitter) -> int | None:
        """In how many bits a code lies that the kernel multiplies with real activations."""
        assert self.grid is not None
        block = self.grid.block or None
        fitting = (bits for bits in (4, 8) if bits >= self.grid.bits and Bits(bits, None, block) in e.hybrid)
        return next(fitting, None)

    def write_bias(self, e: Emitter) -> int:
        """Write the bias, (channels,)."""
        name = self.unit.bias or f"{self.unit.outputs[0]}::bias"
        grid = self.bias_grid
        if grid is not None and grid.axis is not None and self.grid is not None and self.grid.axis is None:
            # Kernels refuse a bias with many scales beside a weight with one.
            grid = grid.with_scales(itemgetter(0), None)
        return e.writer.constant(name, self.bias, grid, 0 if grid is not None and grid.axis is not None else None)


def weights_of(e: Emitter, unit: Unit) -> Weights:
    """Weight and bias of a unit: the plan's codes if it has them; a missing bias is zeros."""
    assert unit.weight is not None
    codes = None if e.plan is None else e.plan.weights.get(unit.weight)
    array, grid = _weight(e, unit.weight, codes)
    if unit.integer:
        assert e.plan is not None
        bias = e.plan.biases[unit.name]
        wide = e.grid(e.data(unit)).bits > 8
        return Weights(unit, array, grid, bias.codes.astype(np.int64 if wide else np.int32), bias.quantization)
    real = e.constant(unit.bias)
    if real is None:
        real = np.zeros(output_channels(unit, array, e), np.float32)
    return Weights(unit, array, grid, real.reshape(-1).astype(np.float32), None)


def _weight(e: Emitter, value: str, codes: QuantizedConstant | None) -> tuple[Array, Quantization | None]:
    if codes is not None:
        return codes.codes.astype(np.int8), codes.quantization
    array = e.constant(value)
    assert array is not None
    return array.astype(np.float32), None


def output_channels(unit: Unit, weight: Array, e: Emitter) -> int:
    """Number of output channels of a weighted unit."""
    if unit.op == "ConvTranspose":
        return int(weight.shape[1]) * int(e.attributes(unit).get("group", 1))
    if unit.op == "Gemm":
        return int(weight.shape[0 if e.attributes(unit).get("transB", 0) else 1])
    return int(weight.shape[-1] if unit.op == "MatMul" else weight.shape[0])
