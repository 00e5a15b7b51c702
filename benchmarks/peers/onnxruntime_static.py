"""onnxruntime.quantization.quantize_static: QDQ, weights per channel, uint8 (or uint4) activations.

Methods: minmax, percentile, entropy, distribution; "... of MatMul" quantizes no other op, as its examples of
transformers do; dynamic: a new scale for each input. Settings in its favour: quant_pre_process first; uint8 activations
(the default int8 leaves half of the convolutions in float); first and last layer by TensorQuantOverrides, the input and
the output of each of the two at 8 bits with it. Two- and three-bit types it has not.
"""

from pathlib import Path
from typing import Any

import onnx
import onnxruntime.tools.symbolic_shape_infer  # noqa: F401  # quantize_static imports it late, PyTorch with it
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from peers.contract import Batch, Job, Result, UnsupportedError, run

_METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "percentile": CalibrationMethod.Percentile,
    "entropy": CalibrationMethod.Entropy,
    "distribution": CalibrationMethod.Distribution,
}
_WEIGHTS = {8: QuantType.QInt8, 4: QuantType.QInt4}
_ACTIVATIONS = {8: QuantType.QUInt8, 4: QuantType.QUInt4}


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, batches: list[Batch]) -> None:
        self.left = iter(batches)

    def get_next(self) -> Any:
        return next(self.left, None)


def quantize(job: Job) -> Result:
    """The integer file."""
    if job.weights not in _WEIGHTS or job.activations not in _ACTIVATIONS:
        raise UnsupportedError(f"has no {min(job.weights, job.activations)}-bit type")
    result = Result(file=str(Path(job.output) / "model.onnx"))
    samples = job.batches(1)
    method, _, ops = job.method.partition(" of ")
    prepared = str(Path(job.output) / "prepared.onnx")
    with result.clock():
        try:
            quant_pre_process(job.model, prepared)
        except Exception:  # its symbolic shapes fail on some recurrent models; the rest of it is of use without them
            quant_pre_process(job.model, prepared, skip_symbolic_shape=True)
        if method == "dynamic":
            quantize_dynamic(prepared, result.file, per_channel=True, weight_type=_WEIGHTS[job.weights])
            return result
        quantize_static(
            prepared,
            result.file,
            _Reader(samples),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["MatMul", "Gemm"] if ops else None,
            calibrate_method=_METHODS[method],
            per_channel=True,
            weight_type=_WEIGHTS[job.weights],
            activation_type=_ACTIVATIONS[job.activations],
            extra_options={"TensorQuantOverrides": _ends(prepared, job)} if job.ends else None,
        )
    return result


def _ends(path: str, job: Job) -> dict[str, list[dict[str, Any]]]:
    graph = onnx.load(path).graph
    nodes = [node for node in graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    found = {}
    for node in (nodes[0], nodes[-1]):
        found[node.input[1]] = [{"quant_type": QuantType.QInt8, "axis": 0}]
        for tensor in (node.input[0], *_outputs(graph, node)) if job.coarse else ():
            found[tensor] = [{"quant_type": QuantType.QUInt8}]
    return found


def _outputs(graph: Any, node: Any) -> list[str]:
    """The node's output, and the ReLU's that follows and takes its place in the integer file."""
    return [node.output[0], *(n.output[0] for n in graph.node if n.op_type == "Relu" and n.input[0] == node.output[0])]


if __name__ == "__main__":
    run(quantize)
