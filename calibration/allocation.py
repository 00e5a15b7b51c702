"""Bits per layer: the least damage within a size budget, as an integer program over measured sensitivities.

    minimize  sum_l d[l, b_l]      subject to  sum_l size[l, b_l] <= budget,   one b_l for each layer l

d[l, b]: change of the distance of the model's outputs from the float model's (softened: ``divergence.py``) when layer l
alone goes to b bits (GPTQ), starting from a uniform width near the budget. Layers' errors meet and grow: measured one
by one in an otherwise 8-bit model they look harmless, and the allocation is then worse than uniform bits. Damages are
taken to add up around that starting point. Solved to optimality by HiGHS (``scipy.optimize.milp``), not greedily;
compare the result with the uniform plan on held-out samples (``repair.better``) before trusting it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import optimize, sparse

from edgeq.calibration.columns import from_rows
from edgeq.calibration.divergence import Inputs, distance, float_outputs
from edgeq.calibration.gptq import gptq
from edgeq.calibration.grids import activation_grids, largest_code
from edgeq.calibration.layer import Layer
from edgeq.calibration.parity import parity_of_rows
from edgeq.calibration.ranges import Ranges
from edgeq.calibration.sequential import UnitProgress, sequential
from edgeq.errors import PlanError
from edgeq.graph.graph import Graph
from edgeq.plan.plan import Plan, Skeleton
from edgeq.plan.quantization import PARITY_BITS, Quantization, QuantizedConstant, quantized_bias

WIDTHS = (2, 3, 4, 5, 6, 8)


@dataclass(frozen=True)
class Sensitivity:
    """What each layer's bits cost.

    Attributes:
        damage: unit name -> bits -> change of the distance; never rising with bits.
        weights: unit name -> how many weights it has.
    """

    damage: Mapping[str, Mapping[int, float]]
    weights: Mapping[str, int]


#: Codes, scales and parity of a layer at some width.
Rounded = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]


def sensitivity(
    graph: Graph,
    skeleton: Skeleton,
    ranges: Ranges,
    samples: Inputs,
    held_out: Inputs,
    *,
    widths: Sequence[int] = WIDTHS,
    progress: UnitProgress | None = None,
) -> Sensitivity:
    """Measure every layer at every width.

    Args:
        graph: the model.
        skeleton: with the uniform width to start from: the largest that fits the budget.
        ranges: of the quantized values.
        samples: to calibrate on, batch by batch.
        held_out: to judge on, batch by batch; other samples.
        widths: bits to try.
        progress: called after each layer.
    """
    alternatives: dict[str, dict[int, Rounded]] = {}

    def record(problem: Layer) -> tuple[torch.Tensor, torch.Tensor]:
        problems = {bits: _at(problem, bits) for bits in widths}
        alternatives[problem.name] = {bits: (*gptq(at), at.parity) for bits, at in problems.items()}
        return gptq(problem)

    base = sequential(graph, skeleton, activation_grids(skeleton, ranges), samples, record, method="sensitivity")
    reference = float_outputs(graph, held_out)
    least = distance(graph, base, held_out, reference).soft
    damage: dict[str, dict[int, float]] = {}
    for done, (unit_name, found) in enumerate(alternatives.items()):
        plans = {bits: _replaced(graph, base, unit_name, bits, found[bits]) for bits in sorted(widths)}
        measured = {b: distance(graph, plan, held_out, reference).soft - least for b, plan in plans.items()}
        damage[unit_name] = _monotone(measured)
        if progress is not None:
            progress(unit_name, done + 1, len(alternatives))
    units = {unit.name: unit for unit in skeleton.units}
    return Sensitivity(damage, {n: base.weights[units[n].weight or ""].codes.size for n in damage})


def allocate(measured: Sensitivity, budget_bytes: float) -> dict[str, int]:
    """Bits of every layer's weights, of least total damage with at most so many bytes of packed weights.

    Raises:
        PlanError: even the fewest bits exceed the budget; the message says what they need.
    """
    choices = [(unit, bits) for unit, by_bits in measured.damage.items() for bits in by_bits]
    sizes = np.array([measured.weights[unit] * bits / 8 for unit, bits in choices])
    least = sum(measured.weights[unit] * min(by_bits) / 8 for unit, by_bits in measured.damage.items())
    if least > budget_bytes:
        raise PlanError(f"weights need at least {least:.0f} bytes at the fewest bits; the budget is {budget_bytes:.0f}")
    units = list(measured.damage)
    member = sparse.csr_array(
        (np.ones(len(choices)), ([units.index(unit) for unit, _ in choices], np.arange(len(choices)))),
        shape=(len(units), len(choices)),
    )
    # A trace of the size in the objective: of equally good choices the smaller one.
    costs = np.array([measured.damage[unit][bits] for unit, bits in choices]) + 1e-9 * sizes / max(sizes.sum(), 1.0)
    solved = optimize.milp(
        costs,
        integrality=np.ones(len(choices)),
        bounds=optimize.Bounds(0, 1),
        constraints=[
            optimize.LinearConstraint(member, 1, 1),
            optimize.LinearConstraint(sizes[None], -np.inf, budget_bytes),
        ],
    )
    if not solved.success:
        raise PlanError(f"no bit widths fit a budget of {budget_bytes:.0f} bytes: {solved.message}")
    return {unit: bits for (unit, bits), taken in zip(choices, solved.x, strict=True) if taken > 0.5}


def _at(problem: Layer, bits: int) -> Layer:
    """The problem at another width."""
    groups, outputs, depth = problem.weight.shape
    rows = problem.weight.reshape(-1, depth) if problem.per_channel else problem.weight.reshape(1, -1)
    found = parity_of_rows(rows.float().numpy(), bits) if bits <= PARITY_BITS else None
    parity = None if found is None else torch.from_numpy(found).double().expand(groups * outputs).reshape(groups, -1)
    return replace(problem, qmax=largest_code(bits, parity), parity=parity)


def _monotone(measured: Mapping[int, float]) -> dict[int, float]:
    # More bits cannot truly hurt: noise of the measurement is evened out from the widest down.
    result: dict[int, float] = {}
    for bits in sorted(measured, reverse=True):
        result[bits] = max([measured[bits], *result.values()])
    return result


def _replaced(graph: Graph, plan: Plan, unit_name: str, bits: int, found: Rounded) -> Plan:
    """The plan with one layer's weight at another width; for simulation only, its bias is rounded anew there."""
    unit = next(u for u in plan.units if u.name == unit_name)
    assert unit.weight is not None
    old = plan.weights[unit.weight].quantization
    codes, scale, parity = found
    flat, odd = (None if part is None else part.reshape(-1).numpy() for part in (scale, parity))
    one = slice(None) if old.axis is not None else 0
    assert flat is not None
    scales = np.asarray(flat[one], np.float32)
    own = None if odd is None else np.asarray(odd[one], np.int64)
    grid = Quantization(scales, np.zeros(scales.shape, np.int64), bits, old.axis, narrow=True, parity=own)
    weight = QuantizedConstant(from_rows(graph, unit, codes.numpy()).astype(np.int64), grid)
    weights = {**plan.weights, unit.weight: weight}
    if unit.name not in plan.biases:
        return replace(plan, weights=weights)
    return replace(plan, weights=weights, biases={**plan.biases, unit.name: _rescaled(plan, unit.name, weight)})


def _rescaled(plan: Plan, unit_name: str, weight: QuantizedConstant) -> QuantizedConstant:
    unit = next(u for u in plan.units if u.name == unit_name)
    real = plan.biases[unit_name].real.astype(np.float64)
    return quantized_bias(real, plan.activations[unit.inputs[0]], weight.quantization)
