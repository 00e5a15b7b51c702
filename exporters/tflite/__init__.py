"""Full-integer, mixed and float TFLite, written through the LiteRT flatbuffer schema."""

from edgeq.exporters.tflite.export import Export, build, export

__all__ = ["Export", "build", "export"]
