"""Fake quantization with a straight-through estimator and learnable step sizes.

    y = scale * (clamp(round(x / scale) + zero_point, qmin, qmax) - zero_point)

The gradient to x passes where x is inside of the grid and is zero outside (clipped straight-through estimator, Bengio
et al. 2013); the gradient to the scale is that of LSQ (Esser et al., "Learned Step Size Quantization", ICLR 2020): it
follows from writing round(v) as v + (round(v) - v).detach():

    dy/dx = 1 inside of the grid, else 0          dy/dscale = y / scale - (x / scale) dy/dx

Both are written out, since training on a CPU spends a third of its time in these elementwise passes.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from edgeq.plan.quantization import Quantization, QuantizedConstant, half_precision


def round_ste(x: torch.Tensor) -> torch.Tensor:
    """Round half to even forward, identity backward."""
    return x + (torch.round(x) - x).detach()


def fake_quantize(x: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, qmin: int, qmax: int) -> torch.Tensor:
    """x on the grid, as real numbers; scale and zero point broadcast against x."""
    result: torch.Tensor = _FakeQuantize.apply(x, scale, zero_point, qmin, qmax)  # type: ignore[no-untyped-call]
    return result


class _FakeQuantize(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, qmin: int, qmax: int
    ) -> torch.Tensor:
        real_codes = x / scale
        low, high = qmin - zero_point, qmax - zero_point
        if low.numel() == 1 and not low.is_cuda:
            # Bounds as plain numbers: a clamp between tensors takes ten times as long. (On a GPU they would wait.)
            y = torch.round(real_codes).clamp_(float(low), float(high)).mul_(scale)
        else:
            y = torch.round(real_codes).clamp_(low, high).mul_(scale)
        ctx.save_for_backward(real_codes, y, scale, low, high)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        real_codes, y, scale, low, high = ctx.saved_tensors
        if low.numel() == 1 and not low.is_cuda:
            # One pass: the gradient where a number rounds to a code of the grid, zero elsewhere.
            to_x = torch.ops.aten.hardtanh_backward(gradient, real_codes, float(low) - 0.5, float(high) + 0.5)
        else:
            to_x = gradient * ((real_codes >= low - 0.5) & (real_codes <= high + 0.5))
        to_scale = None
        if ctx.needs_input_grad[1]:
            to_scale = _products(gradient, y, scale) / scale - _products(to_x, real_codes, scale)
        return (to_x if ctx.needs_input_grad[0] else None), to_scale, None, None, None


def _products(a: torch.Tensor, b: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Sum of a b over what shares a scale, shaped like the scale."""
    if scale.numel() == 1:
        # A dot product, without a tensor of products, where both lie in memory in the same order.
        if a.is_contiguous() and b.is_contiguous():
            return torch.dot(a.reshape(-1), b.reshape(-1)).reshape(scale.shape)
        if a.ndim == 4 and all(x.is_contiguous(memory_format=torch.channels_last) for x in (a, b)):
            a, b = a.permute(0, 2, 3, 1), b.permute(0, 2, 3, 1)
            return torch.dot(a.reshape(-1), b.reshape(-1)).reshape(scale.shape)
    return (a * b).sum_to_size(scale.shape)


class _Grid(nn.Module):
    """A grid as tensors: the scale a parameter (frozen unless recovery learns it), the zero point a buffer."""

    scale: torch.Tensor
    zero_point: torch.Tensor
    parity: torch.Tensor | None

    def __init__(self, grid: Quantization, rank: int) -> None:
        super().__init__()
        scale, zero_point = (grid.scale, grid.zero_point) if grid.block else grid.broadcast(rank)
        apart = grid.parity is not None
        scale = scale * np.float32(2) if apart else scale
        self.scale = nn.Parameter(torch.as_tensor(np.array(scale)), requires_grad=False)
        self.register_buffer("zero_point", torch.as_tensor(np.array(zero_point)).to(torch.float32))
        self.bits, self.axis, self.narrow, self.block = grid.bits, grid.axis, grid.narrow, grid.block
        parity = grid.parity if grid.block else grid.wide_parity(rank)
        self.register_buffer("parity", None if parity is None else torch.as_tensor(np.array(parity)).to(torch.float32))
        half = int(2 ** (grid.bits - 1))
        self.qmin: int = -half if apart else grid.qmin
        self.qmax: int = half - 1 if apart else grid.qmax

    def quantization(self) -> Quantization:
        """The grid as it stands now."""
        if self.block:
            cut, zeros = self.code_scale().detach().cpu().numpy(), self.zero_point.cpu().numpy().astype("int64")
            return Quantization(
                half_precision(cut), zeros, self.bits, self.axis, self.narrow, self.block, self._parity()
            )
        shape = () if self.axis is None else (-1,)
        scale = self.code_scale().detach().cpu().numpy().reshape(shape)
        zero_point = self.zero_point.cpu().numpy().reshape(shape).astype("int64")
        parity = self._parity(shape)
        return Quantization(scale.astype("float32"), zero_point, self.bits, self.axis, self.narrow, parity=parity)

    def _parity(self, shape: tuple[int, ...] | None = None) -> npt.NDArray[np.int64] | None:
        if self.parity is None:
            return None
        found = self.parity.cpu().numpy().astype(np.int64)
        return found if shape is None else found.reshape(shape)

    def code_scale(self) -> torch.Tensor:
        """What a code of the plan is multiplied by: half the distance of codes two apart."""
        return self.scale if self.parity is None else self.scale / 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return fake_quantize(x, self.wide(self.scale), self.wide(self.zero_point), self.qmin, self.qmax)

    def wide(self, part: torch.Tensor) -> torch.Tensor:
        """Scales or zero points as they broadcast against the tensor."""
        return part.repeat_interleave(self.block, self.axis) if self.block else part


class ActivationQuantizer(_Grid):
    """Puts an activation on its group's grid. ``enabled = False`` passes the real values on."""

    def __init__(self, grid: Quantization) -> None:
        super().__init__(grid, 0)
        self.enabled = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x, any shape, on the grid."""
        return super().forward(x) if self.enabled else x


class WeightQuantizer(_Grid):
    """Holds a latent real weight and gives its value on the grid. ``enabled = False`` gives the latent weight.

    Where codes are odd the latent weight lies half a step lower, so that it rounds to whole numbers -2 .. 1 as on any
    other grid; ``scale`` is the distance of two codes, and half of it is added behind.
    """

    def __init__(self, constant: QuantizedConstant, real: torch.Tensor) -> None:
        super().__init__(constant.quantization, real.ndim)
        codes = torch.from_numpy(constant.codes.astype("float32"))
        codes = codes if self.parity is None else (codes - self.wide(self.parity)) / 2
        real = self.lowered(real)
        # Codes that a method chose against the nearest: the latent weight moves to the chosen grid point.
        scale = self.wide(self.scale.detach())
        nearest = torch.clamp(torch.round(real / scale), self.qmin, self.qmax)
        self.latent = nn.Parameter(torch.where(nearest == codes, real, codes * scale))
        self.enabled = True

    def forward(self) -> torch.Tensor:  # type: ignore[override]  # it has its own input
        """The weight on its grid, differentiable with respect to the latent weight and the scale."""
        found = super().forward(self.latent) if self.enabled else self.latent
        return found if self.parity is None else found + self.wide(self.scale * self.parity) / 2

    def lowered(self, real: torch.Tensor) -> torch.Tensor:
        """The latent weight that stands for a real one."""
        return real if self.parity is None else real - self.wide(self.scale.detach() * self.parity) / 2

    def plan_codes(self) -> torch.Tensor:
        """The codes as the plan has them."""
        return self.codes() if self.parity is None else 2 * self.codes() + self.wide(self.parity)

    def codes(self) -> torch.Tensor:
        """The integer codes, float32."""
        with torch.no_grad():
            return torch.clamp(torch.round(self.latent / self.wide(self.scale)), self.qmin, self.qmax)


class BiasQuantizer(nn.Module):
    """Holds a latent real bias; its grid is input scale x weight scale, whatever these become."""

    def __init__(self, real: torch.Tensor, grid: ActivationQuantizer, weight: WeightQuantizer) -> None:
        super().__init__()
        self.latent = nn.Parameter(real.clone())
        # Held in a tuple, so that they stay owned by the simulation alone.
        self._inputs = (grid, weight)

    def scale(self) -> torch.Tensor:
        """input scale x weight scale, shape (channels,) or ()."""
        grid, weight = self._inputs
        return grid.scale * weight.code_scale().reshape(-1 if weight.axis is not None else ())

    def forward(self) -> torch.Tensor:
        """The bias on its int32 grid."""
        grid, weight = self._inputs
        if not (grid.enabled and weight.enabled):
            return self.latent
        scale = self.scale().detach()
        return round_ste(self.latent / scale) * scale
