"""NNCF's compress_weights on ONNX: matrix products alone. Methods: nearest, awq+scale.

Settings in its favour: all layers at the asked width but embeddings, whose 4-bit Gather onnxruntime refuses; a scale
for each output channel as ours have unless blocks are named; data for its activation-aware search.
"""

from pathlib import Path

import nncf
import onnx

from peers.contract import Job, Result, UnsupportedError, run

_MODES = {
    8: nncf.CompressWeightsMode.INT8_SYM,
    4: nncf.CompressWeightsMode.INT4_SYM,
    3: nncf.CompressWeightsMode.INT3_SYM,
    2: nncf.CompressWeightsMode.INT2_SYM,
}


def quantize(job: Job) -> Result:
    """The file with weights behind DequantizeLinear or MatMulNBits."""
    model = onnx.load(job.model)
    if all(node.op_type not in ("MatMul", "Gemm") for node in model.graph.node):
        raise UnsupportedError("compresses weights of matrix products alone; this model has none")
    samples = job.batches(1)
    search = {"awq": True, "scale_estimation": True} if job.method == "awq+scale" else {}
    fallback = nncf.AdvancedCompressionParameters(group_size_fallback_mode=nncf.GroupSizeFallbackMode.ADJUST)
    result = Result(file=str(Path(job.output) / "model.onnx"))
    with result.clock():
        compressed = nncf.compress_weights(
            model,
            mode=_MODES[job.weights],
            group_size=job.block or -1,
            ratio=1.0,
            all_layers=True,
            ignored_scope=nncf.IgnoredScope(types=["Gather"], validate=False),
            dataset=nncf.Dataset(samples) if search else None,
            subset_size=len(samples),
            advanced_parameters=fallback if job.block else None,
            **search,
        )
    onnx.save(compressed, result.file)
    return result


if __name__ == "__main__":
    run(quantize)
