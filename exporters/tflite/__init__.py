"""Full-integer, mixed and float TFLite, written through the LiteRT flatbuffer schema, read back and audited."""

from edgeq.exporters.tflite.audit import audit
from edgeq.exporters.tflite.export import Export, Layout, build, export
from edgeq.exporters.tflite.inspect import inspect
from edgeq.exporters.tflite.read import File, Operator, Tensor, read

__all__ = ["Export", "File", "Layout", "Operator", "Tensor", "audit", "build", "export", "inspect", "read"]
