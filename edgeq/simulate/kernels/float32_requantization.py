"""Requantization in float32: rint(float32(acc) * float32(input scale * weight scale / output scale)) + zero point.

ONNX Runtime's MLAS (x86, ARM, WASM) and LiteRT's XNNPACK delegate both do this for convolutions and matrix products.
"""

import torch

from edgeq.plan.quantization import Quantization


def requantize(
    accumulator: torch.Tensor, input_scale: torch.Tensor, weight_scale: torch.Tensor, output: Quantization
) -> torch.Tensor:
    """Codes (float32) before the clamp; products and quotients are rounded to float32 in this order."""
    scale = input_scale * weight_scale / torch.as_tensor(output.scale)
    return (accumulator.to(torch.float32) * scale).round_().add_(int(output.zero_point))
