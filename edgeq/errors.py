"""The error tree and the exit codes.

    EdgeqError              exit 2   every error that edgeq raises on purpose
    ├── UsageError          exit 2   an option or a combination of options is wrong
    ├── ModelError          exit 2   a model cannot be read, or is not what it claims to be
    │   ├── UnsupportedOpError       an op, attribute or control flow that edgeq does not execute
    │   └── TooLargeError            a model does not fit into one file of a format
    ├── DataError           exit 2   samples, labels or their source are unusable
    ├── PlanError           exit 2   the requested quantization is impossible or breaks a runtime's rule
    ├── OutputError         exit 2   a result cannot be written
    └── DeviceError         exit 4   a device or runtime could not be used

A message is one line: what is wrong, where, and what to do.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """What the process returns; scripts may rely on the numbers."""

    PASSED = 0
    FAILED = 1
    USAGE = 2
    INCONCLUSIVE = 3
    DEVICE = 4
    INTERRUPTED = 130


class EdgeqError(Exception):
    """An expected failure; its message is one line that names the thing and the next step."""

    exit_code = ExitCode.USAGE


class UsageError(EdgeqError):
    """An option, or a combination of options, is wrong."""


class ModelError(EdgeqError):
    """A model cannot be read, or is not what it claims to be."""


class UnsupportedOpError(ModelError):
    """The graph holds an op, attribute or control flow that edgeq does not execute."""


class TooLargeError(ModelError):
    """A model does not fit into one file of a format."""


class DataError(EdgeqError):
    """Samples, labels or their source are unusable."""


class PlanError(EdgeqError):
    """The requested quantization is impossible, or breaks a rule of a chosen runtime."""


class OutputError(EdgeqError):
    """A result cannot be written."""


class DeviceError(EdgeqError):
    """A device or runtime could not be used."""

    exit_code = ExitCode.DEVICE


def first_line(error: BaseException) -> str:
    """The first line of an error's message, cut to 200 characters; its kind if it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__
