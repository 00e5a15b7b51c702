"""AIMET on PyTorch: its simulation with learnable ranges, batch norms folded, weights per channel and symmetric.

Its simulation wraps modules: the sums between blocks stay real, in its favour. ``aimet_torch`` imports torchvision for
data sets and ops that no model here has; where torchvision is not built for this PyTorch, it does without.
"""

import sys
from typing import Any
from unittest.mock import MagicMock

import torch

try:
    import torchvision  # noqa: F401
except (ImportError, RuntimeError):
    sys.modules["torchvision"] = MagicMock()

from aimet_torch import QuantizationSimModel
from aimet_torch.batch_norm_fold import fold_all_batch_norms
from aimet_torch.common.quantsim_config.utils import get_path_for_per_channel_config

from peers_qat.loop import Job, main


def quantize(job: Job, module: Any, samples: torch.Tensor) -> Any:
    """Calibrated; its quantizers' ranges are parameters."""
    fold_all_batch_norms(module, input_shapes=tuple(samples[:1].shape), dummy_input=samples[:1])
    sim = QuantizationSimModel(
        module,
        dummy_input=samples[:32],
        default_param_bw=job.weights,
        default_output_bw=job.activations,
        config_file=get_path_for_per_channel_config(),
    )
    layers = [module for module in sim.model.modules() if "weight" in getattr(module, "param_quantizers", ())]
    for layer in (layers[0], layers[-1]):
        for quantizer in (layer.param_quantizers["weight"], *layer.input_quantizers, *layer.output_quantizers):
            if quantizer is not None:
                quantizer.bitwidth = 8
    sim.compute_encodings(lambda model: [model(batch) for batch in samples.split(32)])
    return sim.model


if __name__ == "__main__":
    main(quantize)
