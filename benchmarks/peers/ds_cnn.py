"""MLPerf Tiny's keyword spotter DS-CNN as a PyTorch module, its weights read from the ONNX file."""

import torch
from torch import nn

from peers.onnx_weights import read as read


class DsCnn(nn.Module):
    """Input [N, 1, 49, 10] MFCC; output [N, 12] scores."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.ZeroPad2d((1, 1, 4, 5)), nn.Conv2d(1, 64, (10, 4), 2), nn.ReLU()]
        for _ in range(4):
            layers += [nn.Conv2d(64, 64, 3, padding=1, groups=64), nn.ReLU(), nn.Conv2d(64, 64, 1), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.linear = nn.Linear(64, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.features(x).mean((2, 3)))


def ds_cnn() -> nn.Module:
    """The module without its weights."""
    return DsCnn()
