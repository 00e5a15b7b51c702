"""NNCF on ONNX: integer QDQ file. Methods: performance, mixed (the two presets), full bias correction.

It quantizes activations and weights of ONNX models to 8 bits only. All samples are given (its default takes 300).
"""

from pathlib import Path

import nncf
import onnx

from peers.contract import Array, Job, Result, UnsupportedError, run


def quantize(job: Job) -> Result:
    """The integer file."""
    if (job.weights, job.activations) != (8, 8):
        raise UnsupportedError("quantizes ONNX models to 8 bits only")
    model = onnx.load(job.model)
    name = model.graph.input[0].name
    samples = job.samples()

    def feed(sample: Array) -> dict[str, Array]:
        return {name: sample[None]}

    preset = nncf.QuantizationPreset.MIXED if job.method == "mixed" else nncf.QuantizationPreset.PERFORMANCE
    result = Result(file=str(Path(job.output) / "model.onnx"))
    with result.clock():
        quantized = nncf.quantize(
            model,
            nncf.Dataset(samples, feed),
            preset=preset,
            subset_size=len(samples),
            fast_bias_correction=job.method != "full bias correction",
        )
    onnx.save(quantized, result.file)
    return result


if __name__ == "__main__":
    run(quantize)
