"""Block reconstruction: learn a block's rounding, scales and biases together, with its activations quantized.

For each block (``blocks.py``) in order, behind the already quantized ones, on samples without labels:

    minimize over w, s, b, t    |y_f - block(x)|^2,    each weight s round(w), each activation on a step t

by Adam through a straight-through estimator, from the codes that another method (GPTQ) found. x mixes the float and the
quantized model's input number by number, and each activation in the block is left in float with probability 1/2
(QDrop): what is learned must serve both. Every ``LOOK`` steps the block is judged on samples that were held out, and
the best state is kept; where none is nearer to the float block than the start, the block stays as it came.

Li et al., "BRECQ: Pushing the Limit of Post-Training Quantization by Block Reconstruction", ICLR 2021. Wei, Gong, Li,
Liu, Yu, "QDrop: Randomly Dropping Quantization for Extremely Low-bit Post-Training Quantization", ICLR 2022. What we
changed: both learn AdaRound's soft rounding from the real weights in 20,000 steps; in the hundreds that a processor
affords this ends behind GPTQ (measured), so we start from GPTQ, learn scales, biases and steps first, and then move
whole codes as AdaQuant does (Hubara et al., "Improving Post Training Neural Quantization", 2020).

Memory: the walk's (bounded), one block's output on all samples, and one batch's gradients. Seeded.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch

from edgeq.calibration.blocks import Block, blocks
from edgeq.calibration.grids import safe_scales, weighted
from edgeq.calibration.parity import of
from edgeq.calibration.parts import Store, dump, load
from edgeq.calibration.sequential import UnitProgress
from edgeq.calibration.soft_block import SoftBlock
from edgeq.calibration.streams import Streams
from edgeq.calibration.walk import Walk
from edgeq.graph.graph import Graph
from edgeq.plan.plan import Plan
from edgeq.plan.quantization import Quantization, QuantizedConstant, quantized_bias

STEPS = 200
BATCH = 16
LOOK = 50
#: Part of the steps in which codes stay as they came: at 2 and 3 bits what moves them seldom improves on GPTQ.
FIXED = 0.5
#: One batch in so many is held out to judge on.
HELD_OUT = 8


def reconstruct(
    graph: Graph,
    plan: Plan,
    samples: Iterable[tuple[torch.Tensor, ...]],
    *,
    steps: int = STEPS,
    seed: int = 0,
    store: Store | None = None,
    progress: UnitProgress | None = None,
) -> Plan:
    """The plan with every block reconstructed, none of them worse on held-out samples than it was.

    Args:
        graph: the model.
        plan: to start from.
        samples: calibration inputs in the order of the graph's inputs, batch by batch; no labels are needed.
        steps: of gradient descent for each block.
        seed: of the batches and of what is dropped.
        store: keeps each block's result; None keeps none.
        progress: called after each block.

    Raises:
        DataError: there are no samples.
    """
    walk = Walk(graph, plan.skeleton, dict(plan.activations), plan.constants).start(samples, BATCH)
    found = blocks(graph, plan.skeleton)
    for done, block in enumerate(found):

        def compute(block: Block = block, plan: Plan = plan, salt: int = seed + done) -> bytes:
            return _dump(_reconstruct(walk, block, plan, steps, salt))

        data = compute() if store is None else store(f"block {done}", compute)
        plan = _apply(graph, plan, block, _load(data))
        walk.activations = plan.activations
        for unit in block.units:
            known = unit.weight is not None and unit.weight in plan.weights
            weight = torch.from_numpy(plan.weights[unit.weight or ""].real) if known else None
            bias = torch.from_numpy(plan.biases[unit.name].real) if unit.name in plan.biases else None
            walk.advance(unit, weight, bias)
        if progress is not None:
            progress(block.name, done + 1, len(found))
    return replace(plan, method=f"{plan.method} + reconstruction")


@dataclass(frozen=True, eq=False)
class Learned:
    """What was learned of a block; empty where it stays as it was.

    Attributes:
        codes: weight -> codes in the graph's layout.
        scales: weight -> scales (channels,) or (1,).
        biases: unit name -> real bias (channels,).
        steps: group of activations -> the factor on its step.
    """

    codes: dict[str, np.ndarray]
    scales: dict[str, np.ndarray]
    biases: dict[str, np.ndarray]
    steps: dict[str, np.ndarray]


_PARTS = ("codes", "scales", "biases", "steps")
NOTHING = Learned({}, {}, {}, {})


def _reconstruct(walk: Walk, block: Block, plan: Plan, steps: int, seed: int) -> Learned:
    soft = SoftBlock.of(walk, block, plan)
    if not soft.weights or not block.outputs:
        return NOTHING
    target = Streams()
    with torch.no_grad():
        for index in range(walk.batches):
            for value, tensor in soft.real(index).items():
                target.append(value, tensor)
    held_out = list(range(0, walk.batches, HELD_OUT)) if walk.batches >= HELD_OUT else []
    training = [i for i in range(walk.batches) if i not in held_out] or [0]
    judges = held_out or training
    start = _error(soft, target, judges)
    if start == 0.0:
        return NOTHING
    best = _learn(soft, target, training, judges, steps, seed)
    return soft.learned(Learned) if best < start else NOTHING


def _error(soft: SoftBlock, target: Streams, batches: list[int]) -> float:
    """Squared error of the quantized block's outputs relative to their variance, on those batches."""
    up = down = 0.0
    with torch.no_grad():
        for index in batches:
            outputs = soft.quantized(index)
            for value, tensor in outputs.items():
                wanted = target.get(value, index)
                up += float((tensor - wanted).square().sum(dtype=torch.float64))
                down += float((wanted - wanted.mean()).square().sum(dtype=torch.float64))
    return up / max(down, 1e-30)


def _learn(soft: SoftBlock, target: Streams, training: list[int], judges: list[int], steps: int, seed: int) -> float:
    """Learn, and leave the block in the best state that was seen; its error."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(soft.parameters())
    rates = [group["lr"] for group in optimizer.param_groups]
    spread = {value: _variance(target, value, training) for value in soft.block.outputs}
    best, state = _error(soft, target, judges), soft.state()
    for step in range(steps):
        index = training[int(torch.randint(len(training), (), generator=generator))]
        outputs = soft.mixed(index, generator)
        parts = [(t - target.get(v, index)).square().mean() / spread[v] for v, t in outputs.items()]
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * (1 + math.cos(math.pi * step / steps)) / 2
        if step < FIXED * steps:
            optimizer.param_groups[0]["lr"] = 0.0
        optimizer.zero_grad()
        torch.stack(parts).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if (step + 1) % LOOK == 0 and (error := _error(soft, target, judges)) < best:
            best, state = error, soft.state()
    soft.restore(state)
    return best


def _variance(target: Streams, value: str, batches: list[int]) -> float:
    return max(float(np.mean([float(target.get(value, i).var(unbiased=False)) for i in batches[:8]])), 1e-12)


def _apply(graph: Graph, plan: Plan, block: Block, learned: Learned) -> Plan:
    """The plan with what was learned; every bias that an input's or a weight's new scale touches is rounded anew."""
    weights, biases = dict(plan.weights), dict(plan.biases)
    activations = dict(plan.activations)
    for value, group in plan.skeleton.groups.items():
        if group in learned.steps:
            grid = activations[value]
            scale = np.asarray(grid.scale * np.float32(learned.steps[group]), np.float32)
            activations[value] = Quantization(scale, grid.zero_point, grid.bits, grid.axis, grid.narrow)
    problems = weighted(graph, plan.skeleton, of(plan)) if learned.codes else {}
    for value, codes in learned.codes.items():
        scale = safe_scales(problems[value], learned.scales[value], graph, activations)
        weights[value] = QuantizedConstant(codes.astype(np.int64), problems[value].grid(scale))
    for unit in plan.units:
        if unit.name in biases and unit.weight is not None:
            real = learned.biases.get(unit.name, biases[unit.name].real)
            grid, weight = activations[unit.inputs[0]], weights[unit.weight].quantization
            biases[unit.name] = quantized_bias(real, grid, weight)
    return replace(plan, activations=activations, weights=weights, biases=biases)


def _dump(learned: Learned) -> bytes:
    return dump({f"{part}/{key}": array for part in _PARTS for key, array in getattr(learned, part).items()})


def _load(data: bytes) -> Learned:
    parts: dict[str, dict[str, np.ndarray]] = {part: {} for part in _PARTS}
    for entry, array in load(data).items():
        part, _, key = entry.partition("/")
        parts[part][key] = array
    return Learned(**parts)
