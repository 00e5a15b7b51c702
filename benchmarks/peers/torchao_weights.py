"""torchao's quantize_: linear layers alone, judged as a module. Methods: nearest, hqq, gptq.

With 8-bit activations they are quantized dynamically, with a new scale for each token, which static codes are not.
Settings in its favour: symmetric weights with a scale for each output channel as ours have unless blocks are named.
Its prototype of GPTQ takes Int4WeightOnlyConfig.
"""

import torch
from torchao.prototype.gptq import GPTQConfig
from torchao.quantization import (
    Int4WeightOnlyConfig,
    Int8DynamicActivationIntxWeightConfig,
    IntxWeightOnlyConfig,
    quantize_,
)
from torchao.quantization.granularity import Granularity, PerAxis, PerGroup
from torchao.quantization.quantize_.workflows import IntxChooseQParamsAlgorithm

from peers.contract import Job, Result, UnsupportedError, run, simulate, tensors, torch_module


def quantize(job: Job) -> Result:
    """Scores of the module."""
    module = torch_module(job)
    if job.ends or job.activations not in (None, 8):
        raise UnsupportedError("quantizes activations to 8 bits only, all layers alike")
    if any(isinstance(m, torch.nn.Conv1d | torch.nn.Conv2d) for m in module.modules()):
        raise UnsupportedError("quantize_ has linear layers alone; this model has convolutions")
    batches = [tensors(batch) for batch in job.batches(32)]
    result = Result(note="module")
    granularity: Granularity = PerGroup(job.block) if job.block else PerAxis(0)
    kind = getattr(torch, f"int{job.weights}")
    with result.clock():
        if job.method == "gptq":
            for step in ("observe", "convert"):
                base = Int4WeightOnlyConfig(group_size=job.block or 32)
                quantize_(module, GPTQConfig(step=step, base_config=base))
                with torch.no_grad():
                    for batch in batches if step == "observe" else ():
                        module(*batch)
        elif job.activations == 8:
            quantize_(module, Int8DynamicActivationIntxWeightConfig(weight_dtype=kind, weight_granularity=granularity))
        else:
            choose = {"intx_choose_qparams_algorithm": IntxChooseQParamsAlgorithm.HQQ_SCALE_ONLY}
            quantize_(
                module,
                IntxWeightOnlyConfig(
                    weight_dtype=kind, granularity=granularity, **(choose if job.method == "hqq" else {})
                ),
            )
    result.scores = simulate(job, module)
    return result


if __name__ == "__main__":
    run(quantize)
