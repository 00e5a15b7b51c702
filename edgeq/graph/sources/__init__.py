"""Where a model comes from: an ONNX file, a torch.export file, or a factory of a PyTorch module."""

from edgeq.graph.sources.load import load_model

__all__ = ["load_model"]
