"""onnxruntime's matmul_nbits_quantizer: weights of matrix products alone, asymmetric. Methods: rtn, hqq, gptq.

It knows blocks alone: where one scale for each output channel is asked it gets blocks of 256 inputs, its coarsest,
which favours it where a layer has more. Convolutions stay in float.
"""

from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import CalibrationDataReader
from onnxruntime.quantization.matmul_nbits_quantizer import (
    DefaultWeightOnlyQuantConfig,
    GPTQWeightOnlyQuantConfig,
    HQQWeightOnlyQuantConfig,
    MatMulNBitsQuantizer,
)

from peers.contract import Batch, Job, Result, UnsupportedError, run


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, batches: list[Batch]) -> None:
        self.batches = batches
        self.rewind()

    def rewind(self) -> None:
        self.left = iter(self.batches)

    def get_next(self) -> Any:
        return next(self.left, None)


def quantize(job: Job) -> Result:
    """The file with MatMulNBits nodes."""
    model = onnx.load(job.model)
    if job.ends:
        raise UnsupportedError("has one width for all layers")
    if all(node.op_type != "MatMul" for node in model.graph.node):
        raise UnsupportedError("has weight-only types for matrix products alone; this model has none")
    samples = job.batches(1)
    name, block = job.method, job.block or 256
    result = Result(file=str(Path(job.output) / "model.onnx"))
    with result.clock():
        if name == "gptq":
            config: Any = GPTQWeightOnlyQuantConfig(_Reader(samples), block_size=block, mse=True)
        elif name == "hqq":
            config = HQQWeightOnlyQuantConfig(block_size=block, bits=job.weights)
        else:
            config = DefaultWeightOnlyQuantConfig(block_size=block, bits=job.weights)
        quantizer = MatMulNBitsQuantizer(model, bits=job.weights, block_size=block, algo_config=config)
        quantizer.process()
    onnx.save(quantizer.model.model, result.file)
    return result


if __name__ == "__main__":
    run(quantize)
