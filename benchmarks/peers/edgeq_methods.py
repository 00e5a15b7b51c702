"""edgeq's own rounding methods, by the functions that ``edgeq convert`` calls.

Methods: auto (``--method auto``; the samples that it holds out to choose by are a fifth of the job's, so that it sees
what the peers see), any name of ``edgeq.calibration.methods``, or dynamic: auto's weights alone, whose products
onnxruntime computes on activations that it quantizes to 8 bits on the way. Runs in the environment that edgeq is
installed in.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from edgeq.calibration.data import open_dataset
from edgeq.calibration.specs import input_specs
from edgeq.calibration.split import split
from edgeq.exporters.onnx.export import export
from edgeq.graph.graph import Graph
from edgeq.pipeline.inputs import Sets, open_model, request
from edgeq.pipeline.options import Options
from edgeq.pipeline.quantize import calibrate, quantize
from edgeq.pipeline.settle import settle
from edgeq.plan.bits import Bits
from edgeq.plan.ops import WEIGHTED
from edgeq.plan.rules import decide
from edgeq.progress import SILENT
from edgeq.run_folder import RunFolder
from peers.contract import Job, Result, UnsupportedError, run


def choose(job: Job) -> Result:
    """The integer file."""
    torch.set_num_threads(1)
    dynamic = job.method == "dynamic"
    if dynamic and job.activations != 8:
        raise UnsupportedError("onnxruntime quantizes activations on the way to 8 bits only")
    options = Options(
        model=job.model, data=job.calibration, output=Path(job.output) / "release",
        bits=Bits(job.weights, None if dynamic else job.activations, job.block),
        method="auto" if dynamic else job.method, shapes=_shapes(job),
    )  # fmt: skip
    model = open_model(options)
    if job.ends:
        options = replace(options, overrides=tuple((layer, Bits(8, 8)) for layer in _ends(model.graph)))
    asked = request(options, ())
    skeleton = decide(model.graph, asked)
    sets = _sets(job, model.graph)
    file = Path(job.output) / "model.onnx"
    result = Result(file=str(file))
    with tempfile.TemporaryDirectory() as folder, RunFolder(Path(folder)) as stages, result.clock():
        model, skeleton = settle(model, skeleton, asked, sets)
        ranges = calibrate(options, model, skeleton, sets, stages, SILENT)
        quantized = quantize(options, model, skeleton, ranges, sets, stages, SILENT)
    result.note = f"chose {quantized.plan.method}" if options.method == "auto" else ""
    file.write_bytes(export(quantized.model.graph, quantized.plan))
    return result


def _shapes(job: Job) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in job.batches(1)[0].items()} if job.whole else {}


def _ends(graph: Graph) -> tuple[str, str]:
    layers = [str(node.name) for node in graph.nodes if node.op_type in WEIGHTED]
    return layers[0], layers[-1]


def _sets(job: Job, graph: Graph) -> Sets:
    """A method alone calibrates on all samples; auto holds some of them out, as ``edgeq convert`` does."""
    data = open_dataset(job.calibration, input_specs(graph.inputs), None)
    if job.method not in ("auto", "dynamic"):
        return Sets(data, None, data, data)
    distinct = len(set(data.hashes))
    parts = split(data, {"calibration": distinct * 4 // 5, "probe": distinct - distinct * 4 // 5})
    return Sets(parts["calibration"], parts["probe"], parts["probe"], data)


if __name__ == "__main__":
    run(choose)
