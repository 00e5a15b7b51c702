"""The basin-exit diagnostic: why a quantized model got worse, which layers are to blame, and what will cure it.

The float weights lie in a *basin*, a nearly flat neighbourhood in which the output's divergence from the float model
grows with the square of the distance; around it stands a *wall*. A grid that is coarse against the basin's width can
put the deployed weights beyond the wall, where rounding methods that look at the float weights' curvature are blind
(after Li, Ma, Cui, "Understanding Quantization-Aware Training", arXiv 2606.09012). Everything here is a pure function
of a :class:`Landscape`, unlabelled samples and a seed; :func:`diagnose` calls them in order and gives a
:class:`Diagnosis`.
"""

from edgeq.basin.cost import Options, price
from edgeq.basin.diagnose import Diagnosis, diagnose
from edgeq.basin.landscape import Landscape, Layer
from edgeq.basin.simulated import SimulatedModel, landscape_of
from edgeq.basin.verdict import Thresholds, Verdict

__all__ = [
    "Diagnosis",
    "Landscape",
    "Layer",
    "Options",
    "SimulatedModel",
    "Thresholds",
    "Verdict",
    "diagnose",
    "landscape_of",
    "price",
]
