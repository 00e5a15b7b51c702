"""Recovery: short quantization-aware training with the float model as teacher; no labels, never worse.

The same :class:`edgeq.simulate.Simulation` can be trained by a user's own loop instead; see docs/recovery.md.
"""

from edgeq.recovery.outcome import Options, Progress, RecoveryResult
from edgeq.recovery.rates import Recipe
from edgeq.recovery.recover import recover
from edgeq.recovery.samples import Batch, Samples, Shuffled, Streamed
from edgeq.recovery.stopping import Budget, Point
from edgeq.recovery.watch import Scores

__all__ = [
    "Batch",
    "Budget",
    "Options",
    "Point",
    "Progress",
    "Recipe",
    "RecoveryResult",
    "Samples",
    "Scores",
    "Shuffled",
    "Streamed",
    "recover",
]
