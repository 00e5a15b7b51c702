"""One layer's rounding as least squares: the problem that every second-order method solves, and its measure.

    minimize over codes and scale   L(V) = E |(T - V) (x_q - m_q)|^2 = tr (T - V) H (T - V)',   V = scale * codes

H is the covariance of the layer's input in the quantized model. T is the weight that would best reproduce the *float*
layer's output from that input: T = (W C_fq + a W) (H + a I)^-1, so that the error of the layers before is fed into this
one's target (ridge a against moments that do not determine T). With T = W this is GPTQ's objective. The bias takes
up the means: see ``moments.py``.
"""

from dataclasses import dataclass

import torch

from edgeq.calibration.moments import Moments
from edgeq.plan.quantization import covering_power, half_precision

#: Ridge, as a part of the mean of H's diagonal (GPTQ's "damping").
DAMPING = 0.01


@dataclass(frozen=True, eq=False)
class Layer:
    """The problem; float64, groups first.

    Attributes:
        weight: W (groups, outputs, K), the float weight.
        target: T (groups, outputs, K).
        hessian: H (groups, K, K), symmetric, with its ridge.
        qmax: codes run from -qmax to qmax, with a parity from -qmax - 1.
        per_channel: whether each output has its own scale.
        name: the unit whose layer it is.
        block: how many inputs of an output share a scale, 0 for all; scales are then (groups, outputs, K / block), else
            (groups, outputs).
        parity: None, or 0 or 1 for each scale: codes are 2 k + parity (``Quantization.parity``).
        power_of_two: scales are powers of two.
    """

    weight: torch.Tensor
    target: torch.Tensor
    hessian: torch.Tensor
    qmax: int
    per_channel: bool
    name: str = ""
    block: int = 0
    parity: torch.Tensor | None = None
    power_of_two: bool = False

    def loss(self, rows: torch.Tensor) -> torch.Tensor:
        """L of each output, (groups, outputs)."""
        error = self.target - rows
        return ((error @ self.hessian) * error).sum(2)

    def nearest(self, scale: torch.Tensor) -> torch.Tensor:
        """Codes of the float weight, rounded to nearest, on those scales."""
        return nearest_code(self.weight / self.wide(scale), self.qmax, self.wide_parity)

    @property
    def wide_parity(self) -> torch.Tensor | None:
        """The parity as it broadcasts against codes (groups, outputs, K)."""
        return None if self.parity is None else self.wide(self.parity)

    def wide(self, scale: torch.Tensor) -> torch.Tensor:
        """Scales that multiply codes (groups, outputs, K)."""
        return scale.repeat_interleave(self.block, 2) if self.block else scale[:, :, None]

    @property
    def ends(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The lowest and the highest code, which broadcast likewise."""
        if self.wide_parity is None:
            return torch.tensor(-float(self.qmax)), torch.tensor(float(self.qmax))
        return self.wide_parity - (self.qmax + 1), self.wide_parity + (self.qmax - 1)

    def min_max_scale(self) -> torch.Tensor:
        """The scales that just cover the float weight."""
        top = self.qmax if self.parity is None else self.qmax - 1 + self.parity
        if self.block:
            return self.storable(self.weight.reshape(*self.weight.shape[:2], -1, self.block).abs().amax(3) / top)
        largest = self.weight.abs().amax(2)
        if not self.per_channel:
            largest = largest.max().expand_as(largest)
        return self.storable((largest / top).clamp(min=1e-30))

    def storable(self, scale: torch.Tensor) -> torch.Tensor:
        """Scales as they can be: those of blocks in half precision, or the powers of two that cover them."""
        if self.power_of_two:
            scale = torch.from_numpy(covering_power(scale.numpy())).to(scale.dtype)
        if not self.block:
            return scale
        return torch.from_numpy(half_precision(scale.numpy())).to(scale.dtype)


def layer(
    weight: torch.Tensor,
    moments: Moments,
    qmax: int,
    per_channel: bool,
    damping: float = DAMPING,
    name: str = "",
    block: int = 0,
    parity: torch.Tensor | None = None,
    power_of_two: bool = False,
) -> Layer:
    """The problem of a weight (groups, outputs, K) with those moments of its input."""
    diagonal = moments.qq.diagonal(dim1=1, dim2=2)
    ridge = damping * diagonal.mean(1).clamp(min=1e-12)
    identity = torch.eye(moments.qq.shape[1], dtype=torch.float64) * ridge[:, None, None]
    hessian = moments.qq + identity
    wanted = weight @ (moments.fq + identity)
    target = torch.linalg.solve(hessian, wanted, left=False)
    return Layer(weight, target, hessian, qmax, per_channel, name, block, parity, power_of_two)


def nearest_code(in_steps: torch.Tensor, qmax: int, parity: torch.Tensor | None = None) -> torch.Tensor:
    """The nearest code of numbers in units of their scale; of that parity, which broadcasts, where there is one."""
    if parity is None:
        return torch.round(in_steps).clamp_(-qmax, qmax)
    half = (qmax + 1) // 2
    return torch.round((in_steps - parity).div_(2)).clamp_(-half, half - 1).mul_(2).add_(parity)
