"""ONNX files: integer QDQ models, read back and audited through ONNX Runtime's own optimizer."""

from edgeq.exporters.onnx.audit import audit
from edgeq.exporters.onnx.export import Signedness, export

__all__ = ["Signedness", "audit", "export"]
