"""A detector through the whole command: boxes and scores survive, and what stayed in float is said aloud."""

import json
from pathlib import Path

import numpy as np
import pytest

from edgeq.exporters.onnx import export

from ..detectors import Decoding, detector, images
from .conftest import Run


@pytest.mark.parametrize(
    ("decoding", "said"),
    [
        ("anchors", "post-processing behind the detection heads (a table of anchors), left in float: "),
        ("logits", "differ in range by a factor of"),
    ],
)
def test_a_detector_is_converted(edgeq: Run, tmp_path: Path, decoding: Decoding, said: str) -> None:
    (tmp_path / "model.onnx").write_bytes(export(detector(decoding), None))
    np.savez(tmp_path / "data.npz", x=images(96))
    output = tmp_path / "release"
    result = edgeq("convert", tmp_path / "model.onnx", "--data", tmp_path / "data.npz", "-o", output,
                   "--latency-runs", 0, "--samples", 32, "--metric", "cosine", "--no-diagnose")  # fmt: skip
    assert result.code in (0, 3), result.err
    assert said in " ".join(result.out.split())
    report = json.loads((output / "report.json").read_text())
    assert any(said in note for note in report["notes"])
    concat = next(layer for layer in report["layers"] if layer["op"] == "Concat")
    assert not concat["integer"]
    assert concat["reason"]
    assert [m["integer_mac_share"] for m in report["devices"].values()] == [1.0, 1.0]
