"""torchao PT2E, exported by torch.onnx: XNNPACK's quantizer, a range of codes for each bit width. Method: nearest.

Settings in its favour: weights per channel, symmetric, on +-(2^(b-1)-1); histogram observers for activations; batch
norms folded by PT2E itself. PT2E has no better rounding, and its quantizer gives ReLU6 the range of what comes into it.
Codes of fewer bits are stored as int8, and in ONNX nothing bounds them: right for weights, but activations of 4 bits
become 8-bit ones, so there its module is judged.
"""

from pathlib import Path

import torch
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.testing.pt2e._xnnpack_quantizer import XNNPACKQuantizer, get_symmetric_quantization_config

from peers.contract import Job, Result, UnsupportedError, run, simulate, tensors, torch_module


def quantize(job: Job) -> Result:
    """The file of torch.onnx, or scores of the converted module."""
    if job.activations is None:
        raise UnsupportedError("XNNPACK's quantizer of PT2E has no weight-only types")
    module = torch_module(job)
    batches = [tensors(batch) for batch in job.batches(32)]
    layers = [
        n for n, m in module.named_modules() if isinstance(m, torch.nn.Conv1d | torch.nn.Conv2d | torch.nn.Linear)
    ]
    count = torch.export.Dim("n", min=1, max=1024)
    dynamic = None if job.whole else tuple({0: count} for _ in batches[0])
    result = Result()
    with result.clock():
        exported = torch.export.export(module, batches[0], dynamic_shapes=dynamic).module()
        quantizer = XNNPACKQuantizer().set_global(_config(job.weights, job.activations))
        for layer in (layers[0], layers[-1]) if job.ends else ():
            quantizer.set_module_name(layer, _config(8, 8))
        prepared = prepare_pt2e(exported, quantizer)
        with torch.no_grad():
            for batch in batches:
                prepared(*batch)
        converted = convert_pt2e(prepared)
    if job.coarse:
        result.note = "its file loses the bounds of 4-bit activations"
        result.scores = simulate(job, converted)
        return result
    try:
        file = Path(job.output) / "model.onnx"
        program = torch.onnx.export(converted, batches[0], dynamo=True, dynamic_shapes=dynamic)
        assert program is not None
        program.save(str(file))
        result.file = str(file)
    except Exception as error:  # whatever the exporter refuses, the reason is shown
        result.note = f"no file: {str(error).splitlines()[0][:80]}"
        result.scores = simulate(job, converted)
    return result


def _config(weights: int, activations: int) -> object:
    top = 2 ** (weights - 1) - 1
    low = -(2 ** (activations - 1))
    return get_symmetric_quantization_config(
        is_per_channel=True, act_qmin=low, act_qmax=-low - 1, weight_qmin=-top, weight_qmax=top
    )


if __name__ == "__main__":
    run(quantize)
