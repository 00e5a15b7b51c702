"""Where samples come from, one file per kind of source; ``edgeq.calibration.data`` chooses and validates."""

from edgeq.calibration.sources.source import Field, Source

__all__ = ["Field", "Source"]
