"""NNCF on ONNX: integer QDQ file. Methods: performance, mixed (the two presets), full bias correction;
transformer: its model type of that name, with SmoothQuant.

It quantizes activations and weights of ONNX models to 8 bits only. All samples are given (its default takes 300).
"""

from pathlib import Path

import nncf
import onnx

from peers.contract import Job, Result, UnsupportedError, run


def quantize(job: Job) -> Result:
    """The integer file."""
    if (job.weights, job.activations) != (8, 8):
        raise UnsupportedError("quantizes ONNX models to 8 bits only")
    model = onnx.load(job.model)
    samples = job.batches(1)
    preset = nncf.QuantizationPreset.MIXED if job.method == "mixed" else nncf.QuantizationPreset.PERFORMANCE
    result = Result(file=str(Path(job.output) / "model.onnx"))
    with result.clock():
        quantized = nncf.quantize(
            model,
            nncf.Dataset(samples),
            preset=preset,
            subset_size=len(samples),
            model_type=nncf.ModelType.TRANSFORMER if job.method == "transformer" else None,
            fast_bias_correction=job.method != "full bias correction",
        )
    onnx.save(quantized, result.file)
    return result


if __name__ == "__main__":
    run(quantize)
