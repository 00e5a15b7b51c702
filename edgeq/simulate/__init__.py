"""The quantized model in PyTorch: differentiable (fake quantization) and exact (each runtime's integer kernels)."""

from edgeq.simulate.integer import IntegerSimulation
from edgeq.simulate.simulation import Simulation

__all__ = ["IntegerSimulation", "Simulation"]
