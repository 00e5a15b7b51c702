"""torchao PT2E: XNNPACK's quantizer in its QAT mode, batch norms folded beforehand, activations' observers frozen."""

from typing import Any

import torch
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchao.quantization.pt2e import disable_observer
from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e
from torchao.testing.pt2e._xnnpack_quantizer import XNNPACKQuantizer, get_symmetric_quantization_config

from peers_qat.loop import Job, main


def quantize(job: Job, module: Any, samples: torch.Tensor) -> Any:
    """Calibrated; its weights' ranges follow the weights, as its fake quantization does."""
    _fold(module)
    layers = [n for n, m in module.named_modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    dynamic = {0: torch.export.Dim("n", min=1, max=1024)}
    exported = torch.export.export(module, (samples[:32],), dynamic_shapes=(dynamic,)).module()
    quantizer = XNNPACKQuantizer().set_global(_config(job.weights, job.activations))
    for layer in (layers[0], layers[-1]):
        quantizer.set_module_name(layer, _config(8, 8))
    prepared = prepare_qat_pt2e(exported, quantizer)
    with torch.no_grad():
        for batch in samples.split(32):
            prepared(batch)
    for node in prepared.graph.nodes:
        # Only what observes an activation stops: a weight's range must follow it.
        if node.op == "call_module" and str(node.target).startswith("activation_post_process"):
            source = node.args[0]
            if source.op != "get_attr":
                prepared.get_submodule(node.target).apply(disable_observer)
    return prepared


def _fold(module: Any) -> None:
    """Batch norms into the convolutions before them (names of this family: conv1 and bn1, conv2 and bn2)."""
    for part in module.modules():
        for number in "12":
            if hasattr(part, f"bn{number}"):
                folded = fuse_conv_bn_eval(getattr(part, f"conv{number}"), getattr(part, f"bn{number}"))
                setattr(part, f"conv{number}", folded)
                setattr(part, f"bn{number}", torch.nn.Identity())


def _config(weights: int, activations: int) -> Any:
    top = 2 ** (weights - 1) - 1
    low = -(2 ** (activations - 1))
    return get_symmetric_quantization_config(
        is_per_channel=True, is_qat=True, act_qmin=low, act_qmax=-low - 1, weight_qmin=-top, weight_qmax=top
    )


if __name__ == "__main__":
    main(quantize)
