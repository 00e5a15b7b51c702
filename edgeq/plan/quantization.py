"""The affine grid of one tensor, and a constant on it.

    real = scale * (code - zero_point),   code in [qmin, qmax]

as the ONNX QuantizeLinear and the LiteRT quantization specifications define it (round half to even). Codes are signed
everywhere in edgeq: an exporter that needs uint8 shifts code and zero point by 128, which is the same real grid.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from edgeq.errors import PlanError

#: Numbers of a constant that are quantized at a time.
_PIECE = 1 << 22

#: Weights of up to so many bits can have codes two apart, with or without a zero. Of 4 bits they would not fit where
#: runtimes store 4-bit codes.
PARITY_BITS = 3
#: A bias's codes stay under this, so that the int32 accumulator keeps as much room for the products.
LARGEST_BIAS = 2**30
#: A block's scale is no smaller: below, float16 has less than five bits of it.
SMALLEST_IN_BLOCKS = 2.0**-20

Number = TypeVar("Number", bound=np.generic)
FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class Quantization:
    """The grid of one tensor.

    Attributes:
        scale: float32, shape () for per-tensor or (channels,) for per-channel; of a blocked grid the tensor's shape,
            its ``axis`` divided by ``block``.
        zero_point: int64, same shape as scale.
        bits: width of a code, 2 to 16 (32 for a bias).
        axis: the channel axis of the tensor, or None for per-tensor; of a blocked grid the axis that is cut in blocks.
        narrow: codes stop at -(2^(bits-1) - 1), so that the grid is symmetric (weights of LiteRT).
        block: how many neighbours along ``axis`` share a scale; 0 if the grid is not blocked.
        parity: None, or int64, same shape as scale, 0 or 1: codes are two apart, 2 k + parity with k from
            -2^(bits-1) to 2^(bits-1) - 1. Where it is 1 they are odd (at 2 bits -3, -1, 1, 3): symmetric, and none of
            2^bits is given up for it, but without a zero; where it is 0 (-4, -2, 0, 2) there is one.
        offset: how far codes and zero point are shifted in a wider type that holds them; 0 in a plan.
    """

    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int64]
    bits: int
    axis: int | None = None
    narrow: bool = False
    block: int = 0
    parity: npt.NDArray[np.int64] | None = None
    offset: int = 0

    def __post_init__(self) -> None:
        if self.scale.dtype != np.float32 or self.zero_point.dtype != np.int64:
            raise PlanError(
                f"a scale is float32 and a zero point int64, not {self.scale.dtype}, {self.zero_point.dtype}"
            )
        ranked = self.scale.ndim > 1 if self.block else self.scale.ndim == (self.axis is not None)
        if self.scale.shape != self.zero_point.shape or not ranked or (self.block and self.axis is None):
            raise PlanError(
                f"scale {self.scale.shape} and zero point {self.zero_point.shape} do not fit axis {self.axis}"
            )
        if self.parity is not None and not (
            self.parity.shape == self.scale.shape and np.isin(self.parity, (0, 1)).all()
        ):
            raise PlanError(f"the parity of codes {self.parity} is not 0 or 1 for each scale")
        if not (np.isfinite(self.scale).all() and (self.scale > 0).all()):
            raise PlanError("a scale is not finite and positive")
        if (self.zero_point < self.qmin).any() or (self.zero_point > self.qmax).any():
            raise PlanError(f"a zero point is outside [{self.qmin}, {self.qmax}]")

    @property
    def qmin(self) -> int:
        """The smallest code."""
        return self.offset + (-int(2**self.bits) if self.parity is not None else int(self.narrow) - self._half)

    @property
    def qmax(self) -> int:
        """The largest code."""
        return self.offset - 1 + (int(2**self.bits) if self.parity is not None else self._half)

    @property
    def _half(self) -> int:
        return int(2 ** (self.bits - 1))

    def shifted(self, by: int) -> "Quantization":
        """The same real numbers with all codes shifted."""
        return replace(self, zero_point=self.zero_point + by, offset=self.offset + by)

    def with_scales(self, change: Callable[[npt.NDArray[Any]], npt.NDArray[Any]], axis: int | None) -> "Quantization":
        """The grid of a tensor cut or turned otherwise: what there is of each scale changed alike."""
        parity = None if self.parity is None else change(self.parity)
        scale, zero_point = change(self.scale), change(self.zero_point)
        return replace(self, scale=scale, zero_point=zero_point, parity=parity, axis=axis)

    def broadcast(self, rank: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Scale and zero point shaped to broadcast against a tensor of that rank."""
        return self._wide(self.scale, rank), self._wide(self.zero_point, rank)

    def wide_parity(self, rank: int) -> npt.NDArray[np.int64] | None:
        """The parity shaped likewise."""
        return None if self.parity is None else self._wide(self.parity, rank)

    def _wide(self, part: npt.NDArray[Number], rank: int) -> npt.NDArray[Number]:
        if self.axis is None:
            return part
        if self.block:
            return np.repeat(part, self.block, self.axis)
        shape = [1] * rank
        shape[self.axis] = -1
        return part.reshape(shape)

    def quantize(self, real: FloatArray) -> IntArray:
        """Codes (int64) of real values: divide in float32, round half to even, add the zero point, saturate."""
        scale, zero_point = self.broadcast(real.ndim)
        with np.errstate(over="ignore"):  # a quotient too large for float32 is infinite, and saturates
            in_steps = real.astype(np.float32) / scale
        parity = self.wide_parity(real.ndim)
        if parity is not None:
            halves = np.clip(np.rint((in_steps - parity) / 2), -self._half, self._half - 1)
            return np.asarray(2 * halves + parity, np.int64)
        codes = np.rint(in_steps).astype(np.float64) + zero_point
        return np.asarray(np.clip(codes, self.qmin, self.qmax), np.int64)

    def quantize_constant(self, real: FloatArray) -> "QuantizedConstant":
        """A constant on this grid; a large one goes piece by piece, so that no copy of it in wider numbers exists."""
        if real.size <= _PIECE or real.ndim < 2 or self.block:
            return QuantizedConstant(self.quantize(real), self)
        codes = np.empty(real.shape, np.int8 if self.bits <= 8 else np.int64)
        rows = max(1, _PIECE * real.shape[0] // real.size)
        for first in range(0, real.shape[0], rows):
            piece = slice(first, first + rows)
            on = self
            if self.axis == 0:
                on = self.with_scales(itemgetter(piece), 0)
            codes[piece] = on.quantize(real[piece])
        return QuantizedConstant(codes, self)

    def dequantize(self, codes: IntArray) -> npt.NDArray[np.float32]:
        """Real values (float32) of codes."""
        scale, zero_point = self.broadcast(codes.ndim)
        wide = np.int64 if self.bits > 16 else np.int32
        return np.asarray((codes.astype(wide) - zero_point.astype(wide)).astype(np.float32) * scale, np.float32)

    def same_grid(self, other: "Quantization") -> bool:
        """Whether both describe the same real numbers with the same codes."""
        return (
            self.bits == other.bits
            and (self.axis, self.block, self.offset) == (other.axis, other.block, other.offset)
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero_point, other.zero_point)
            and np.array_equal(-1 if self.parity is None else self.parity, -1 if other.parity is None else other.parity)
        )


def _times(block: int, axis: int | None, rank: int) -> list[int]:
    return [block if position == axis else 1 for position in range(rank)]


def per_tensor(scale: float | np.floating, zero_point: int, bits: int = 8, *, narrow: bool = False) -> Quantization:
    """A per-tensor grid from plain numbers."""
    return Quantization(np.array(scale, np.float32), np.array(zero_point, np.int64), bits, None, narrow)


def covering_power(scale: FloatArray | np.float64) -> npt.NDArray[np.float64]:
    """The smallest powers of two that are no smaller than the scales (but for rounding in the last bits)."""
    return np.asarray(2.0 ** np.ceil(np.log2(np.asarray(scale, np.float64)) - 1e-6))


def half_precision(scale: FloatArray) -> npt.NDArray[np.float32]:
    """Scales of blocks as LiteRT stores them: rounded to float16, no smaller than ``SMALLEST_IN_BLOCKS``."""
    return np.clip(scale, SMALLEST_IN_BLOCKS, 65504.0).astype(np.float16).astype(np.float32)


def affine_from_range(
    low: float, high: float, bits: int, *, symmetric: bool = False, power_of_two: bool = False
) -> Quantization:
    """The per-tensor grid whose codes cover [low, high] and hold zero exactly.

    Asymmetric: scale = (high - low) / (2^bits - 1). Symmetric: zero point 0, as LiteRT's int16 activations demand,
    scale = max(|low|, |high|) / (2^(bits-1) - 1); the lowest code is used too, as no kernel keeps to less. A range
    without extent gets a scale of 1 / (2^(bits-1) - 1). A power of two: the next that covers the range.
    """
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    if not np.isfinite([low, high]).all():
        raise PlanError(f"the range [{low}, {high}] is not finite")
    qmin, qmax = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    wanted = max(-low, high) / qmax if symmetric else (high - low) / (qmax - qmin)
    found = _positive(wanted, qmax)
    scale = np.float32(covering_power(np.float64(found)) if power_of_two else found)
    if symmetric:
        return per_tensor(scale, 0, bits)
    zero_point = int(np.clip(np.rint(qmin - low / float(scale)), qmin, qmax))
    return per_tensor(scale, zero_point, bits)


def _positive(scale: float, qmax: int) -> float:
    # Below float32's smallest normal number a scale would flush to zero in some kernels.
    return scale if scale >= float(np.finfo(np.float32).tiny) else 1.0 / qmax


@dataclass(frozen=True, eq=False)
class QuantizedConstant:
    """A constant tensor as integer codes on its grid (a weight, a bias, or a constant operand).

    Codes of up to 8 bits are held as int8, whatever they come as: a plan takes a quarter of the float model.
    """

    codes: IntArray
    quantization: Quantization

    def __post_init__(self) -> None:
        if not np.issubdtype(self.codes.dtype, np.integer):
            raise PlanError(f"codes are integers, not {self.codes.dtype}")
        axis, block = self.quantization.axis, self.quantization.block
        if block and tuple(np.multiply(self.quantization.scale.shape, _times(block, axis, self.codes.ndim))) != (
            self.codes.shape
        ):
            raise PlanError(f"scales {self.quantization.scale.shape} in blocks of {block} for codes {self.codes.shape}")
        if not block and axis is not None and self.quantization.scale.shape != (self.codes.shape[axis],):
            raise PlanError(f"{self.quantization.scale.shape[0]} scales for {self.codes.shape[axis]} channels")
        if self.codes.size and (self.codes.min() < self.quantization.qmin or self.codes.max() > self.quantization.qmax):
            raise PlanError(f"a code is outside [{self.quantization.qmin}, {self.quantization.qmax}]")
        parity = self.quantization.wide_parity(self.codes.ndim)
        if parity is not None and ((self.codes & 1) != parity).any():
            raise PlanError("a code is odd where its grid's are even, or even where they are odd")
        if self.quantization.bits <= 8:
            object.__setattr__(self, "codes", self.codes.astype(np.int8, copy=False))

    @property
    def real(self) -> npt.NDArray[np.float32]:
        """The real values the codes stand for."""
        return self.quantization.dequantize(self.codes)


def quantized_bias(real: FloatArray, input_grid: Quantization, weight_grid: Quantization) -> QuantizedConstant:
    """The int32 codes of a bias (channels,), on the grid of the products that it is added to."""
    scale = np.float32(input_grid.scale) * weight_grid.scale
    scale = np.broadcast_to(scale, real.shape).astype(np.float32)
    grid = Quantization(scale, np.zeros(scale.shape, np.int64), 32, 0)
    codes = np.rint(np.asarray(real, np.float64) / scale.astype(np.float64))
    return QuantizedConstant(np.clip(codes, -LARGEST_BIAS, LARGEST_BIAS).astype(np.int64), grid)
