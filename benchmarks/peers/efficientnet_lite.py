"""EfficientNet-Lite0 as a PyTorch module, its batch norms folded as in the ONNX file, whose weights it takes."""

import torch
from torch import nn

from peers.onnx_weights import read as read

#: Of each stage: kernel, stride of its first block, expansion, channels, blocks.
_STAGES = (
    (3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3), (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)  # fmt: skip


def _conv(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """A convolution padded as TensorFlow does: with a stride of 2 an odd kernel sees more at the end."""
    before, after = (kernel - stride) // 2, (kernel - 1) // 2
    if before == after:
        return [nn.Conv2d(inputs, outputs, kernel, stride, before, groups=groups)]
    pad = nn.ZeroPad2d((before, after, before, after))
    return [pad, nn.Conv2d(inputs, outputs, kernel, stride, groups=groups)]


class InvertedResidual(nn.Module):
    """Wider by 1 x 1, depthwise, narrower by 1 x 1; its input is added where the shape stays."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        layers = [*_conv(inputs, wide), nn.ReLU6()] if expansion > 1 else []
        layers += [*_conv(wide, wide, kernel, stride, groups=wide), nn.ReLU6(), *_conv(wide, outputs)]
        self.layers = nn.Sequential(*layers)
        self.added = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x) + x if self.added else self.layers(x)


class EfficientNetLite(nn.Module):
    """Input [N, 3, 224, 224]; output [N, 1000] scores."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [*_conv(3, 32, 3, 2), nn.ReLU6()]
        inputs = 32
        for kernel, stride, expansion, outputs, count in _STAGES:
            for block in range(count):
                layers.append(InvertedResidual(inputs, outputs, kernel, 1 if block else stride, expansion))
                inputs = outputs
        self.features = nn.Sequential(*layers, *_conv(inputs, 1280), nn.ReLU6())
        self.linear = nn.Linear(1280, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.features(x).mean((2, 3)))


def efficientnet_lite0() -> nn.Module:
    """The module without its weights."""
    return EfficientNetLite()
