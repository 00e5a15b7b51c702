"""Sony's Model Compression Toolkit: fake-quantized PyTorch module, judged as it is. Methods: nearest, gptq.

Settings in its favour: a platform with uniform (asymmetric, freely scaled) activations in place of its power-of-two
ones, weights per channel and symmetric; its defaults of MSE ranges and bias correction; GPTQ (gradient-based) for 4
epochs over all samples. Its ONNX export is a float model with rounding in it, so no file is judged.
"""

import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from typing import Any
from unittest.mock import MagicMock

# It imports torchvision, whose package on PyPI cannot load beside a CPU build of torch, and uses none of it here.
for _name in ("torchvision", "torchvision.transforms", "torchvision.transforms.transforms", "torchvision.ops"):
    sys.modules[_name] = MagicMock(__spec__=ModuleSpec(_name, None), __path__=[], __version__="0.28.0")

import model_compression_toolkit as mct  # noqa: E402
import torch  # noqa: E402
from mct_quantizers import QuantizationMethod  # noqa: E402
from model_compression_toolkit.core.common.network_editors import NodeNameFilter  # noqa: E402
from model_compression_toolkit.target_platform_capabilities.constants import KERNEL_ATTR, WEIGHTS_N_BITS  # noqa: E402
from model_compression_toolkit.target_platform_capabilities.tpc_models.imx500_tpc.v1_0 import tpc  # noqa: E402

from peers.contract import Job, Result, UnsupportedError, run, simulate, tensors, torch_module  # noqa: E402

EPOCHS = 4


def quantize(job: Job) -> Result:
    """Scores of the fake-quantized module."""
    if job.ends and job.coarse:
        raise UnsupportedError(
            "sets 8-bit ends for weights only (its manual bit widths of activations need candidates)"
        )
    module = torch_module(job)
    if any(isinstance(m, torch.nn.Conv1d) for m in module.modules()):
        raise UnsupportedError("leaves the weights of 1-D convolutions in float")
    parts = job.batches(32)

    def samples() -> Iterator[list[torch.Tensor]]:
        for part in parts:
            yield list(tensors(part))

    core = mct.core.CoreConfig()
    if job.ends:
        layers = [n for n, m in module.named_modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
        for layer in (layers[0], layers[-1]):
            # Its graph calls a layer by another name where it has folded a batch norm into it.
            name = layer.replace(".", "_")
            named = NodeNameFilter(name) | NodeNameFilter(f"{name}_bn")
            core.bit_width_config.set_manual_weights_bit_width(named, 8, "weight")
    result = Result(note="fake-quantized module")
    with result.clock():
        if job.method == "gptq":
            quantized, _ = mct.gptq.pytorch_gradient_post_training_quantization(
                module,
                samples,
                core_config=core,
                gptq_config=mct.gptq.get_pytorch_gptq_config(n_epochs=EPOCHS),
                target_platform_capabilities=_platform(job),
            )
        else:
            quantized, _ = mct.ptq.pytorch_post_training_quantization(
                module, samples, core_config=core, target_platform_capabilities=_platform(job)
            )
    result.scores = simulate(job, quantized.eval())
    return result


def _platform(job: Job) -> Any:
    """Its reference platform with the job's bit widths; 8-bit weights as the other candidate for the ends."""
    base, _, default = tpc.get_op_quantization_configs()
    activations = {
        "activation_n_bits": job.activations or 8,
        "enable_activation_quantization": job.activations is not None,
        "activation_quantization_method": QuantizationMethod.UNIFORM,
        "supported_input_activation_n_bits": (job.activations or 8,),
    }
    eight = base.clone_and_edit(**activations)
    narrow = eight.clone_and_edit(attr_to_edit={KERNEL_ATTR: {WEIGHTS_N_BITS: job.weights}})
    candidates = [narrow, eight] if job.ends else [narrow]
    return tpc.generate_tpc(default.clone_and_edit(**activations), narrow, candidates, "benchmark")


if __name__ == "__main__":
    run(quantize)
