"""MLPerf Tiny's keyword spotter DS-CNN as a PyTorch module, its weights read from the ONNX file."""

import torch
from torch import nn


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


def read(module: nn.Module, path: str) -> None:
    """Weights and biases of each layer, in order, from the file's Conv and Gemm nodes."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(path).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    nodes = [node for node in graph.node if node.op_type in ("Conv", "Gemm")]
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        for node, layer in zip(nodes, layers, strict=True):
            layer.weight.copy_(torch.from_numpy(constants[node.input[1]].copy()))
            assert layer.bias is not None
            layer.bias.copy_(torch.from_numpy(constants[node.input[2]].copy()))
