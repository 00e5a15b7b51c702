"""ONNX files: integer QDQ models, read back and audited through ONNX Runtime's own optimizer."""

from edgeq.exporters.onnx.audit import audit
from edgeq.exporters.onnx.export import Layout, Signedness, constant_bytes, export, notes, save
from edgeq.exporters.onnx.inspect import inspect
from edgeq.exporters.onnx.layout import image_inputs

__all__ = ["Layout", "Signedness", "audit", "constant_bytes", "export", "image_inputs", "inspect", "notes", "save"]
