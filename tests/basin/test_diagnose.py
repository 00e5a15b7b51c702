"""The whole diagnosis on the demonstration's model: verdicts, cost, determinism, pictures, and bad input."""

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from scipy.special import softmax

from edgeq.basin.cost import Cost, Options
from edgeq.basin.diagnose import Diagnosis, diagnose
from edgeq.basin.divergence import refer
from edgeq.basin.pictures import draw
from edgeq.basin.remedy import remedy
from edgeq.basin.repair import repair
from edgeq.basin.report import lines, to_json
from edgeq.basin.simulated import landscape_of
from edgeq.basin.valley import take_slice
from edgeq.basin.verdict import VERDICTS
from edgeq.errors import DataError, UsageError
from edgeq.plan.bits import Bits

from . import demo


def _diagnose(bits: str, **options: object) -> Diagnosis:
    landscape, model = landscape_of(demo.graph(), demo.plan(bits))
    training = demo.batches("train", 0, 256)
    return diagnose(
        landscape,
        demo.batches("evaluation", 0, 160),
        training=training,
        labels=demo.samples("evaluation")[1][:160],
        repair=lambda candidate: repair(model, candidate, training),
        options=Options(blame_samples=32, width_samples=16, **options),  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def coarse() -> Diagnosis:
    return _diagnose("w2a8")


@pytest.fixture(scope="module")
def fine() -> Diagnosis:
    return _diagnose("w8a8")


def test_eight_bits_are_inside_and_two_bits_are_not(coarse: Diagnosis, fine: Diagnosis) -> None:
    assert fine.verdict.name == "inside"
    assert fine.repaired is None
    assert fine.probe is None
    assert coarse.verdict.name in ("slope", "exit", "far")
    assert coarse.repaired is not None
    assert coarse.repaired.D.estimate < coarse.raw.D.estimate
    assert coarse.raw.D.low <= coarse.raw.D.estimate <= coarse.raw.D.high


def test_labels_are_reported_and_decide_nothing(coarse: Diagnosis) -> None:
    assert coarse.accuracy is not None
    assert coarse.accuracy["float"] > 0.9
    assert coarse.accuracy["candidate"] < coarse.accuracy["float"]
    # The task's loss beside it, against the float model's own logits.
    assert coarse.loss is not None
    assert coarse.loss.keys() == coarse.accuracy.keys() == {"float", "candidate", "repaired"}
    (x,) = demo.batches("evaluation", 0, 160, 160)[0]
    labels = demo.samples("evaluation")[1][:160]
    rows = coarse.landscape.run(coarse.landscape.origin, (x,), 0.0)[0].detach().numpy().astype(np.float64)
    expected = -np.log(np.take_along_axis(softmax(rows, 1), labels[:, None], 1)).mean()
    # Batches of another size sum in another order.
    assert coarse.loss["float"] == pytest.approx(expected, rel=1e-4)
    assert coarse.loss["candidate"] > coarse.loss["repaired"] > coarse.loss["float"]


def test_the_drop_never_exceeds_the_bound_that_needs_no_label(coarse: Diagnosis) -> None:
    assert coarse.accuracy is not None
    assert coarse.raw.A is not None
    assert coarse.accuracy["float"] - coarse.accuracy["candidate"] <= coarse.raw.A.changed + 1e-12


def test_every_layer_has_blame_and_width_and_the_shares_sum_to_the_altitude(coarse: Diagnosis) -> None:
    assert coarse.blame is not None
    # Six points of quadrature over a path of kinks.
    assert coarse.blame.total == pytest.approx(coarse.blame.altitude, rel=0.1)
    assert sum(layer.blame for layer in coarse.layers) == pytest.approx(coarse.blame.total)
    assert [layer.blame for layer in coarse.layers] == sorted((layer.blame for layer in coarse.layers), reverse=True)
    assert all(layer.width is not None and layer.width.half_width > 0 for layer in coarse.layers)


def test_the_same_diagnosis_twice_is_the_same(coarse: Diagnosis) -> None:
    again, first = (to_json(d, ()) for d in (_diagnose("w2a8"), coarse))
    for found in (again, first):
        del found["cost"]
    assert again == first


def test_json_holds_the_promised_names_and_no_number_that_json_has_not(coarse: Diagnosis, fine: Diagnosis) -> None:
    for diagnosis in (coarse, fine):
        found = json.loads(json.dumps(to_json(diagnosis, ("edgeq convert m.onnx",)), allow_nan=False))
        promised = {"verdict", "kind", "D", "A", "K", "R", "I", "p", "t_star", "repaired", "layers", "remedy"}
        assert promised <= found.keys()
        assert {"name", "blame", "half_width", "safe_bits"} <= found["layers"][0].keys()
        assert found["verdict"] in VERDICTS
        assert found["kind"] == diagnosis.verdict.kind
    assert to_json(fine, ())["t_star"] is None


def test_the_words_name_verdict_layers_and_commands(coarse: Diagnosis) -> None:
    commands = remedy(coarse.verdict, "edgeq convert m.onnx --data d", Bits.parse("w2a8"), [coarse.layers[0].name], {})
    text = "\n".join(lines(coarse, commands))
    assert text.startswith(coarse.verdict.name.upper())
    assert coarse.layers[0].name in text
    assert all(command in text for command in commands)


def test_the_cost_is_told_before_anything_else_is_done() -> None:
    landscape, _ = landscape_of(demo.graph(), demo.plan("w3"))
    said: list[str] = []

    def announce(cost: Cost) -> None:
        assert cost.passes > 0
        said.append("cost")

    diagnose(
        landscape,
        demo.batches("evaluation", 0, 32),
        options=Options(layers=False, steps=0),
        announce=announce,
        progress=lambda what, done, total: said.append(what),
    )
    assert said[0] == "cost"
    assert "path" in said


def test_pictures_are_the_same_bytes_twice(coarse: Diagnosis, tmp_path: Path) -> None:
    reference = refer(coarse.landscape, demo.batches("evaluation", 0, 16))
    others = {} if coarse.probe is None else {"trained": coarse.probe.point}
    valley = take_slice(coarse.landscape, reference, others, columns=4, rows=4)
    first, second = (draw(coarse, tmp_path / name, valley) for name in ("a", "b"))
    assert [path.name for path in first] == ["path.svg", "valley.svg", "blame.svg", "widths.svg"]
    for a, b in zip(first, second, strict=True):
        assert a.read_bytes() == b.read_bytes()
        assert b"<svg" in a.read_bytes()[:400]
        # Well formed, with colors of its own for a dark page.
        assert "prefers-color-scheme: dark" in "".join(ElementTree.parse(a).getroot().itertext())


def test_the_slice_shows_true_altitudes(coarse: Diagnosis) -> None:
    reference = refer(coarse.landscape, demo.batches("evaluation", 0, 16))
    valley = take_slice(coarse.landscape, reference, {}, columns=9, rows=3)
    by_name = {mark.name: mark for mark in valley.marks}
    assert (by_name["float"].x, by_name["float"].y, by_name["float"].phi) == (0.0, 0.0, 0.0)
    assert by_name["deployed"].x == pytest.approx(1.0)
    assert by_name["deployed"].y == pytest.approx(0.0, abs=1e-6)


def test_a_candidate_that_is_not_finite_is_broken() -> None:
    from dataclasses import replace

    landscape, _ = landscape_of(demo.graph(), demo.plan("w8a8"))
    deployed = dict(landscape.deployed)
    name = landscape.layers[0].weight
    deployed[name] = torch.full_like(deployed[name], float("nan"))
    found = diagnose(replace(landscape, deployed=deployed), demo.batches("evaluation", 0, 32), options=Options(steps=0))
    assert found.verdict.name == "broken"
    assert "not finite" in found.verdict.cause
    json.dumps(to_json(found, ()), allow_nan=False)


def test_no_samples_and_a_task_that_does_not_fit_are_refused() -> None:
    landscape, _ = landscape_of(demo.graph(), demo.plan("w8"))
    with pytest.raises(DataError, match="needs probe samples"):
        diagnose(landscape, [])
    with pytest.raises(UsageError, match="--task tokens does not fit"):
        diagnose(landscape, demo.batches("evaluation", 0, 32), options=Options(task="tokens"))
    bad = [(torch.full_like(demo.batches("evaluation", 0, 8)[0][0], float("nan")),)]
    with pytest.raises(DataError, match="not finite on the probe samples"):
        diagnose(landscape, bad)


def test_outputs_that_are_no_classes_are_judged_by_relative_error() -> None:
    found = _diagnose("w8a8", task="values", layers=False, steps=0)
    assert found.verdict.name == "inside"
    assert found.raw.A is None
    assert found.raw.chance == 1.0
    assert np.isfinite(found.raw.D.estimate)


@pytest.mark.parametrize(("better", "verdict"), [("w8a8", "slope"), ("w2a8", None)])
def test_rounding_is_tried_before_it_is_ruled_out(better: str, verdict: str | None, coarse: Diagnosis) -> None:
    landscape, model = landscape_of(demo.graph(), demo.plan("w2a8"))
    training = demo.batches("train", 0, 128)
    found = diagnose(
        landscape,
        demo.batches("evaluation", 0, 96),
        training=training,
        repair=lambda candidate: repair(model, candidate, training),
        rounding=lambda: (landscape_of(demo.graph(), demo.plan(better))[0],),
        options=Options(layers=False, steps=4),
    )
    assert found.rounded is not None
    assert any("trial of better rounding" in line for line in found.verdict.evidence)
    if verdict is not None:
        assert found.verdict.name == verdict
        assert found.rounded.D < 0.05
        # What rounding cures is not trained for.
        assert found.probe is None
    else:
        # The same rounding once more is no better than the candidate; training starts from the lower of both.
        assert found.repaired is not None
        assert pytest.approx(found.raw.D.estimate, rel=1e-3) == found.rounded.D
        assert found.probe is not None
        assert found.probe.deployed[0] == pytest.approx(found.repaired.D.estimate, rel=1e-3)
