"""Where static grids of activations cost most between matrix products, the story says what there is instead."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from edgeq.pipeline.automatic import Story
from edgeq.pipeline.inputs import open_model, open_sets, request
from edgeq.pipeline.options import Options
from edgeq.pipeline.quantize import calibrate, quantize
from edgeq.plan.bits import Bits
from edgeq.plan.rules import decide
from edgeq.progress import SILENT
from edgeq.run_folder import RunFolder

from ..graphs import graph_of, n, weights

WIDTH = 16


def written(path: Path) -> Path:
    drawn = weights(w=(WIDTH, WIDTH), v=(WIDTH, 8))
    ir.save(graph_of([n("MatMul", "x w", "a"), n("MatMul", "a v", "y")], drawn, ("batch", 3, WIDTH)).model, path)
    return path


def told(folder: Path, loudest: float, bits: Bits) -> Story:
    x = np.random.default_rng(1).normal(size=(200, 3, WIDTH)).astype(np.float32)
    x[::2, 0] *= loudest  # every second sample has a token that no common scale serves together with the others
    np.savez(folder / "samples.npz", x=x)
    options = Options(str(written(folder / "model.onnx")), str(folder / "samples.npz"), folder / "release", bits=bits)
    model = open_model(options)
    skeleton, sets = decide(model.graph, request(options, ())), open_sets(options, model.graph)
    with RunFolder(folder / "run") as stages:
        ranges = calibrate(options, model, skeleton, sets, stages, SILENT)
        return quantize(options, model, skeleton, ranges, sets, stages, SILENT).story


@pytest.mark.parametrize("bits", [Bits(8, 8), Bits(4, None)])
def test_nothing_is_said_where_activations_cost_little(tmp_path: Path, bits: Bits) -> None:
    assert "--bits w8" not in str(told(tmp_path, 1.0, bits))


def test_scales_for_every_input_anew_are_named(tmp_path: Path) -> None:
    assert "with --bits w8 ONNX Runtime and LiteRT choose" in told(tmp_path, 300.0, Bits(8, 8)).reason


def test_they_are_named_with_the_weights_that_were_asked_for(tmp_path: Path) -> None:
    assert "with --bits w6 ONNX Runtime" in told(tmp_path, 300.0, Bits(6, 8)).reason
