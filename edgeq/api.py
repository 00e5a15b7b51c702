"""edgeq from Python: each command as a typed function, each step's result to be passed to the next.

import edgeq
result = edgeq.convert("model.onnx", "samples.npz", device="cpu-litert", bits="w8a8", output="release")
result.judgement.outcome
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeq.graph.graph import Graph
from edgeq.graph.sources import load_model
from edgeq.pipeline import Conversion
from edgeq.pipeline import convert as run_pipeline
from edgeq.pipeline.options import Options
from edgeq.plan.bits import Bits
from edgeq.plan.plan import Plan
from edgeq.simulate import IntegerSimulation, Simulation


def convert(
    model: str | Path,
    data: str | Path,
    *,
    device: str | Sequence[str] | None = None,
    bits: str = "w8a8",
    evaluation: str | Path | None = None,
    output: str | Path = "release",
    **options: Any,
) -> Conversion:
    """Quantize a model, export it, validate it on its devices, judge it, and write the release folder.

    Args:
        model: path of an ``.onnx`` or ``.pt2`` file, or ``package.module:factory``.
        data: samples to calibrate with: see ``edgeq.calibration.data``.
        device: profile or profiles, by name or path; the default is this machine's ONNX Runtime and LiteRT.
        bits: the number format; ``auto`` chooses each layer's (see ``max_size``).
        evaluation: samples to evaluate on; default: a part of ``data`` that is kept apart.
        output: the release folder.
        options: further fields of :class:`edgeq.pipeline.options.Options`.

    Raises:
        EdgeqError: see ``edgeq.errors``.
    """
    if device is not None:
        options["devices"] = (device,) if isinstance(device, str) else tuple(device)
    return run_pipeline(
        Options(
            model=str(model),
            data=str(data),
            output=Path(output),
            evaluation=None if evaluation is None else str(evaluation),
            bits=Bits(8, 8) if bits == "auto" else Bits.parse(bits),
            auto_bits=bits == "auto",
            **options,
        )
    )


__all__ = ["Conversion", "Graph", "IntegerSimulation", "Plan", "Simulation", "convert", "load_model"]
