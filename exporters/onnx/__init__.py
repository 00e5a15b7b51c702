"""ONNX files: integer QDQ models, read back and audited through ONNX Runtime's own optimizer."""

from edgeq.exporters.onnx.audit import audit
from edgeq.exporters.onnx.export import Signedness, export
from edgeq.exporters.onnx.inspect import inspect

__all__ = ["Signedness", "audit", "export", "inspect"]
