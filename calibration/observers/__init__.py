"""Observers: what range of a value the grid should cover, from a stream of tensors; one file per criterion."""

from collections.abc import Callable
from types import MappingProxyType

from edgeq.calibration.observers.entropy import Entropy
from edgeq.calibration.observers.histogram import Histogram
from edgeq.calibration.observers.min_max import MinMax
from edgeq.calibration.observers.mse import Mse
from edgeq.calibration.observers.observer import Observer
from edgeq.calibration.observers.percentile import Percentile

#: (name on the command line, how to make one for a value), in order of cost.
OBSERVERS: tuple[tuple[str, Callable[[], Observer]], ...] = (
    ("min-max", MinMax),
    ("percentile", Percentile),
    ("mse", Mse),
    ("entropy", Entropy),
)

BY_NAME = MappingProxyType(dict(OBSERVERS))

__all__ = ["BY_NAME", "OBSERVERS", "Entropy", "Histogram", "MinMax", "Mse", "Observer", "Percentile"]
