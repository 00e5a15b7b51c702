"""ONNX files: integer QDQ models, read back and audited through ONNX Runtime's own optimizer."""

from edgeq.exporters.onnx.audit import audit
from edgeq.exporters.onnx.export import Layout, Signedness, export, save
from edgeq.exporters.onnx.inspect import inspect
from edgeq.exporters.onnx.layout import image_inputs

__all__ = ["Layout", "Signedness", "audit", "export", "image_inputs", "inspect", "save"]
