"""The promises of recovery on a small real model: it recovers, it is never worse, it is deterministic."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from edgeq.calibration.methods import method
from edgeq.calibration.ranges import observe
from edgeq.calibration.repair import repair
from edgeq.errors import DataError
from edgeq.graph.execute import to_torch
from edgeq.plan.plan import Plan
from edgeq.plan.validate import validate
from edgeq.recovery import Budget, Options, Recipe, RecoveryResult, Shuffled, recover

from .models import Case, digits


def short(
    case: Case, plan: Plan | None = None, *, steps: int = 25, recipe: Recipe | None = None, **more: object
) -> RecoveryResult:
    samples = Shuffled((case.train,), 32, seed=1)
    return recover(
        case.graph,
        plan or case.plan,
        samples,
        case.held_out,
        Budget(steps=steps),
        recipe=recipe,
        **more,  # type: ignore[arg-type]
    )


def same(one: Plan, other: Plan) -> bool:
    return (
        all(np.array_equal(one.weights[w].codes, other.weights[w].codes) for w in one.weights)
        and all(
            np.array_equal(one.weights[w].quantization.scale, other.weights[w].quantization.scale) for w in one.weights
        )
        and all(np.array_equal(one.biases[u].codes, other.biases[u].codes) for u in one.biases)
        and all(one.activations[v].same_grid(other.activations[v]) for v in one.activations)
    )


def test_it_recovers_most_of_what_two_bits_lost_and_gives_a_valid_plan() -> None:
    case = digits("w2a8")
    seen: list[float] = []
    start = repair(case.graph, case.plan, [(case.train[:300],)])
    result = short(case, start, steps=150, labels=case.labels, progress=lambda p: seen.append(p.seconds_left))
    assert result.kept, result.reason
    assert result.after.mean < 0.5 * result.before.mean
    assert result.after.correct is not None
    assert result.before.correct is not None
    assert result.after.correct > result.before.correct + 10
    assert result.steps == 150
    assert len(seen) == 150
    assert seen[-1] == 0.0
    assert [p.step for p in result.curve] == sorted({p.step for p in result.curve})
    assert result.curve[-1].flipped > 0
    # At the start descent leads strongly inwards; at the end little is left to gain that way.
    assert result.curve[0].inward > 0
    assert abs(result.curve[-1].inward) < 0.2 * result.curve[0].inward
    assert all(0 < result.curve[i].t_star < 1 for i in (0, -1))
    assert [point.t_star >= 0 for point in result.curve].count(True) == 3
    assert result.plan.method == "nearest+statistics+recovery"
    validate(case.graph, result.plan)


def test_four_levels_at_two_bits_stay_four() -> None:
    case = digits("w2a8")
    samples = [(case.train[:128],)]
    ranges = observe(to_torch(case.graph), samples, case.plan.skeleton)
    start = method("gptq+variance")(case.graph, case.plan.skeleton, ranges, samples)
    result = short(case, start, steps=20)
    validate(case.graph, result.plan)
    for value, constant in result.plan.weights.items():
        np.testing.assert_array_equal(constant.quantization.parity, start.weights[value].quantization.parity)
        assert len(np.unique(constant.codes[0])) <= 4
    assert {int(constant.quantization.parity.max()) for constant in result.plan.weights.values()} == {1}
    assert result.after.mean < 2 * result.before.mean


def test_equal_arguments_give_equal_plans_and_another_seed_another() -> None:
    case = digits("w3a8")
    one, two = short(case, steps=8), short(case, steps=8)
    assert same(one.plan, two.plan)
    assert [p.deployed for p in one.curve] == [p.deployed for p in two.curve]
    other = recover(case.graph, case.plan, Shuffled((case.train,), 32, seed=2), case.held_out, Budget(steps=8))
    assert [p.deployed for p in one.curve][1:] != [p.deployed for p in other.curve][1:]


def test_a_destructive_rate_is_not_kept() -> None:
    case = digits("w4a8")
    result = short(case, steps=6, recipe=Recipe(rate=100.0))
    assert max(point.deployed for point in result.curve) > 10 * result.curve[0].deployed
    assert not result.kept
    assert result.plan is case.plan
    assert "do not show that it is better" in result.reason


def test_a_rate_that_is_too_high_is_halved_from_the_best_point_on() -> None:
    case = digits("w4a8")
    result = short(case, steps=40, recipe=Recipe(rate=0.3))
    assert any("went back to the best point, at half the rate" in said for said in result.warnings)
    # It ends far under where the first rate had brought it.
    assert result.curve[-1].deployed < 0.5 * max(point.deployed for point in result.curve)


def test_the_start_is_kept_where_training_adds_nothing() -> None:
    case = digits("w4a8")
    result = short(case, steps=3, recipe=Recipe(rate=1e-9, average=0))
    assert not result.kept
    assert result.plan is case.plan


def test_inside_the_basin_nothing_is_trained() -> None:
    case = digits("w8a8")
    result = short(case, options=Options(inside=0.05))
    assert result.steps == 0
    assert "inside the basin" in result.stopped
    assert result.plan is case.plan


def test_a_loss_that_is_not_finite_stops_the_run_and_the_start_is_kept() -> None:
    case = digits("w4a8")
    broken = replace(case, train=torch.full_like(case.train, float("nan")))
    result = short(broken, steps=5)
    assert "not finite" in result.stopped
    assert result.plan is case.plan


def test_polyak_steps_recover_too() -> None:
    case = digits("w2a8")
    result = short(case, steps=40, recipe=Recipe(polyak=0.2))
    assert result.after.mean < 0.7 * result.before.mean


def test_training_some_layers_leaves_the_weights_of_others_alone() -> None:
    case = digits("w2a8")
    last = [u for u in case.plan.units if u.weight is not None][-1]
    result = short(case, steps=10, options=Options(layers=frozenset({last.name})))
    assert result.kept, result.reason
    changed = {
        w for w in case.plan.weights if not np.array_equal(case.plan.weights[w].codes, result.plan.weights[w].codes)
    }
    assert changed <= {last.weight}


def test_frozen_oscillations_do_not_break_a_run() -> None:
    case = digits("w2a8")
    result = short(case, steps=25, recipe=Recipe(freeze_above=0.02))
    assert result.kept, result.reason
    validate(case.graph, result.plan)


def test_the_statistics_repair_is_a_valid_plan_that_is_nearer_to_the_float_model() -> None:
    case = digits("w2a8")
    plan = repair(case.graph, case.plan, [(case.train[:300],)])
    validate(case.graph, plan)
    raw, fixed = (short(case, p, steps=1, recipe=Recipe(rate=1e-9)).before.mean for p in (case.plan, plan))
    assert fixed < 0.5 * raw


def test_the_repair_of_a_plan_that_needs_none_keeps_its_scales() -> None:
    # Odd codes, two apart: GPTQ has matched every layer's variance on these samples already.
    case = digits("w2a8")
    samples = [(part,) for part in case.train[:300].split(64)]
    ranges = observe(to_torch(case.graph), samples, case.plan.skeleton)
    plan = method("gptq+variance")(case.graph, case.plan.skeleton, ranges, samples)
    assert any(constant.quantization.parity is not None for constant in plan.weights.values())
    fixed = repair(case.graph, plan, [(case.train[:300],)])
    for value, constant in plan.weights.items():
        np.testing.assert_allclose(fixed.weights[value].quantization.scale, constant.quantization.scale, rtol=0.1)


def test_samples_to_judge_by_are_needed() -> None:
    case = digits("w4a8")
    samples = Shuffled((case.train,), 32)
    with pytest.raises(DataError, match="held-out"):
        recover(case.graph, case.plan, samples, [], Budget(steps=1))
    with pytest.raises(DataError, match="at least two"):
        recover(case.graph, case.plan, samples, [(case.train[:1],)], Budget(steps=1))
    with pytest.raises(DataError, match="labels"):
        recover(case.graph, case.plan, samples, case.held_out, Budget(steps=1), labels=case.labels[:1])
