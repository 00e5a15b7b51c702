"""Brevitas: the graph of its own PTQ recipe (``peers.brevitas_ptq``, its choices in its favour), then trained."""

import copy
from typing import Any

import torch
from brevitas.quant_tensor import IntQuantTensor
from brevitas_examples.imagenet_classification.ptq.ptq_common import calibrate
from peers.brevitas_ptq import _quantized
from peers.contract import Job as Ptq

from peers_qat.loop import Job, main


def quantize(job: Job, module: Any, samples: torch.Tensor) -> Any:
    """Calibrated, with every scale initialized and a parameter."""
    ptq = Ptq(
        model="", factory=None, calibration="", evaluation="", whole=False, weights=job.weights,
        activations=job.activations, block=None, ends=True, method="nearest", output="",
    )  # fmt: skip
    try:
        quantized = _calibrated(_quantized(copy.deepcopy(module), ptq), samples)
    except RuntimeError as error:
        # The first layer's output at 8 bits cannot be added to one of fewer: its scales must be equal.
        if "Scaling factors are different" not in str(error):
            raise
        quantized = _calibrated(_quantized(module, ptq, outputs=False), samples)
    # Sums of values on scales that training moved apart are refused outside of training mode, where they are real sums.
    IntQuantTensor.check_scaling_factors_same = lambda self, other: True
    for parameter in quantized.parameters():
        parameter.requires_grad_(True)
    return quantized


def _calibrated(quantized: Any, samples: torch.Tensor) -> Any:
    with torch.no_grad():
        quantized(samples[:32])
    calibrate([(part, None) for part in samples.split(32)], quantized)
    return quantized


if __name__ == "__main__":
    main(quantize)
