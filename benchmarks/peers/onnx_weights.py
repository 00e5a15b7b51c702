"""A module's weights from the ONNX file of the same layers."""

import torch
from torch import nn


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
