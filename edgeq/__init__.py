"""edgeq: ship quantized models that can be trusted. What it offers from Python is told in ``edgeq.api``."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from edgeq.api import Conversion, Graph, IntegerSimulation, Plan, Simulation, convert, load_model

__all__ = [
    "Conversion",
    "Graph",
    "IntegerSimulation",
    "Plan",
    "Simulation",
    "__version__",
    "convert",
    "load_model",
]


def __getattr__(name: str) -> Any:
    # PyTorch takes seconds to import: `import edgeq` and `edgeq --help` do without it.
    if name not in __all__:
        raise AttributeError(f"module 'edgeq' has no attribute {name!r}")
    from edgeq import api

    return getattr(api, name)
