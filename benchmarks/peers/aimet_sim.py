"""AIMET on ONNX: its simulation, exported as QDQ. Methods: nearest, cle, seqmse, adaround, cle+adaround.

Settings in its favour: weights per channel and symmetric, batch norms folded; min-max ranges, but its signal-to-noise
search ("tf_enhanced") for 4-bit activations; AdaRound on all samples, 500 iterations a layer (it advises 15,000 below 8
bits, an hour of CPU here). ONNX has no 3-bit type, so there the simulation is judged.
"""

from pathlib import Path

import onnx
from aimet_onnx import QuantizationSimModel, apply_adaround, apply_seq_mse, qtype
from aimet_onnx.batch_norm_fold import fold_all_batch_norms_to_weight
from aimet_onnx.cross_layer_equalization import equalize_model
from aimet_onnx.quantsim import set_param_type

from peers.contract import Job, Result, run, write_scores

ITERATIONS = 500


def quantize(job: Job) -> Result:
    """The QDQ file, or scores of the simulation."""
    model = onnx.load(job.model)
    batches = job.batches(32)
    result = Result()
    with result.clock():
        if "cle" in job.method:
            equalize_model(model)
        else:
            fold_all_batch_norms_to_weight(model)
        sim = QuantizationSimModel(
            model,
            param_type=qtype.int(job.weights),
            activation_type=qtype.int(job.activations or 8),
            quant_scheme="tf_enhanced" if job.coarse else "min_max",
        )
        if job.ends:
            _widen(sim)
        for name in sim.activation_names if job.activations is None else ():
            sim.qc_quantize_op_dict[name].enabled = False
        if "seqmse" in job.method:
            apply_seq_mse(sim, batches)
        if "adaround" in job.method:
            apply_adaround(sim, batches, num_iterations=ITERATIONS)
        sim.compute_encodings(batches)
    try:
        onnx.save(sim.to_onnx_qdq(prequantize_constants=True), file := str(Path(job.output) / "model.onnx"))
        result.file = file
    except Exception as error:  # whatever it refuses, the reason is shown
        result.note = f"no file: {str(error).splitlines()[0][:80]}"
        result.scores = write_scores(job, [sim.session.run(None, batch)[0] for batch in job.evaluated()])
    return result


def _widen(sim: QuantizationSimModel) -> None:
    """First and last layer at 8 bits, their inputs and outputs too."""
    layers = [op for op in sim.connected_graph.ordered_ops if op.type in ("Conv", "Gemm", "MatMul")]
    for op in (layers[0], layers[-1]):
        set_param_type(sim, qtype.int(8), nodes_to_include={op.name})
        follower = op.output_ops[0] if op.output_ops and op.output_ops[0].type == "Relu" else op
        tensors = [op.inputs[0].name, follower.outputs[0].name]
        sim.set_tensor_precision(tensors, qtype.int(8), strict=False)


if __name__ == "__main__":
    run(quantize)
