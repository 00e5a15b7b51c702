"""The doctor finds each illness that it names, and none in a healthy set."""

import numpy as np
import torch

from edgeq.calibration.doctor import coverage, preprocessing, sufficiency
from edgeq.calibration.ranges import observe
from edgeq.graph.execute import to_torch

from .networks import convolutions, images, skeleton

GRAPH = convolutions()
MODULE = to_torch(GRAPH)
SKELETON = skeleton(GRAPH)


def batches(x: np.ndarray) -> list[tuple[torch.Tensor, ...]]:
    return [(part,) for part in torch.from_numpy(x).split(32)]


def test_many_alike_samples_suffice() -> None:
    samples = batches(images(2048))
    assert sufficiency(observe(MODULE, samples, SKELETON)) == ()


def test_ranges_that_still_grow_are_found() -> None:
    x = images(64)
    x[40:] *= 4.0
    found = sufficiency(observe(MODULE, batches(x), SKELETON))
    assert SKELETON.groups["x"] in {finding.where for finding in found}
    assert found[0].kind == "few samples"
    assert sufficiency(observe(MODULE, iter(batches(x)), SKELETON)) == (), "their number was not known beforehand"
    assert "calibrate on more" in found[0].advice
    assert [f.measured for f in found] == sorted((f.measured for f in found), reverse=True)


def test_evaluation_within_the_ranges_is_healthy() -> None:
    ranges = observe(MODULE, batches(images(512)), SKELETON).ranges
    assert coverage(MODULE, batches(images(128, seed=7)), SKELETON, ranges) == ()


def test_evaluation_that_leaves_the_ranges_is_found() -> None:
    ranges = observe(MODULE, batches(images(512)), SKELETON).ranges
    found = coverage(MODULE, batches(images(128, seed=7) * 3), SKELETON, ranges)
    assert "x" in {finding.where for finding in found}
    assert all(finding.measured > finding.limit for finding in found)


def test_a_float_model_at_chance_is_suspected() -> None:
    g = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 10, (500,), generator=g)
    chance = torch.randn(500, 10, generator=g)
    good = chance + 5 * torch.nn.functional.one_hot(labels, 10)
    assert [f.kind for f in preprocessing([chance], labels.numpy())] == ["preprocessing"]
    assert preprocessing([good[:250], good[250:]], labels.numpy()) == ()
    assert preprocessing([good]) == ()
    one_class = torch.randn(500, 10, generator=g)
    one_class[:, 3] += 20
    assert "one class" in preprocessing([one_class])[0].advice


def test_outputs_that_are_no_classes_are_not_judged() -> None:
    assert preprocessing([torch.zeros(5, 1)]) == ()
    assert preprocessing([torch.zeros(5, 4, 4)]) == ()
