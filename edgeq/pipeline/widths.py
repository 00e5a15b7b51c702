"""``--bits auto``: bits for each layer's weights from their measured sensitivity, within a size or an accuracy budget.

With ``--max-size``: the least divergence within so many bytes of packed weights. Without: the fewest bytes whose
divergence from the float model on held-out samples stays under ``TOLERATED``. Either way the allocation is an integer
program (``edgeq.calibration.allocation``), and it is kept only where it beats uniform bits of the same budget on
held-out samples. Activations have 8 bits. All widths run at int8 speed, so latency is no reason to choose one.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import torch

from edgeq.calibration.allocation import WIDTHS, Sensitivity, allocate, sensitivity
from edgeq.calibration.divergence import Distance, distance, float_outputs
from edgeq.calibration.grids import weighted
from edgeq.calibration.methods import method
from edgeq.calibration.parity import whole
from edgeq.calibration.ranges import Ranges
from edgeq.errors import DataError, PlanError
from edgeq.pipeline.inputs import Model, Sets
from edgeq.pipeline.options import Options
from edgeq.plan.bits import Bits
from edgeq.plan.plan import Plan, Skeleton
from edgeq.progress import Reporter
from edgeq.run_folder import RunFolder

#: Divergence (nats, or relative squared error) that the fewest bits may cost where no size is asked for.
TOLERATED = 0.02
#: Mean bits that are tried where no size is asked for, fewest first.
MEANS = (2.5, 3.0, 3.5, 4.0, 5.0, 6.0)
_BATCH, _SAMPLES, _JUDGES = 64, 128, 128
_METHOD = "gptq+variance"
_FREE = Bits(8, 8)


@dataclass(frozen=True)
class Widths:
    """What was chosen.

    Attributes:
        bits: unit -> bits of its weight.
        packed_bytes: of all weights at these bits.
        loss: divergence on held-out samples.
        uniform_bits: the uniform width of the same budget.
        uniform_loss: its divergence.
    """

    bits: dict[str, int]
    packed_bytes: float
    loss: float
    uniform_bits: int
    uniform_loss: float

    def __str__(self) -> str:
        widths = sorted(set(self.bits.values()))
        spread = ", ".join(f"{sum(b == w for b in self.bits.values())} layers at {w}" for w in widths)
        return (
            f"{spread} bits: {self.packed_bytes / 1000:,.1f} kB of weights, divergence {self.loss:.3g} "
            f"(uniform {self.uniform_bits} bits: {self.uniform_loss:.3g})"
        )


def choose_widths(
    options: Options,
    model: Model,
    skeleton: Skeleton,
    ranges: Ranges,
    sets: Sets,
    folder: RunFolder,
    reporter: Reporter,
) -> Widths:
    """The bits of every layer that the user left at the 8 that the skeleton has.

    Raises:
        DataError: too few samples to hold some out.
        PlanError: no bits fit the size.
    """
    if sets.probe is None:
        raise DataError("--bits auto judges on held-out samples, and there are too few; give 24 or more")

    def compute() -> bytes:
        return json.dumps(asdict(_Choice(model, skeleton, ranges, sets, reporter).choose(options.max_size))).encode()

    key = {
        "model": model.digest,
        "ranges": asdict(ranges),
        "bits": [[unit, str(bits)] for unit, bits in skeleton.bits.items()],
        "data": sets.digests["calibration"],
        "size": options.max_size,
    }
    return Widths(**json.loads(folder.stage("widths", key, compute)))


class _Choice:
    """The measurements of one model."""

    def __init__(self, model: Model, skeleton: Skeleton, ranges: Ranges, sets: Sets, reporter: Reporter) -> None:
        assert sets.probe is not None
        self.model, self.skeleton, self.ranges, self.reporter = model, skeleton, ranges, reporter
        sizes = {unit.weight: unit.name for unit in skeleton.units if skeleton.bits[unit.name] == _FREE}
        found = weighted(model.graph, skeleton, whole)
        self.sizes = {sizes[value]: weight.real.size for value, weight in found.items() if value in sizes}
        self.samples = model.batches(sets.calibration.take(_SAMPLES), _BATCH)
        self.judges = model.batches(sets.probe.take(_JUDGES), _BATCH)
        self.reference: list[tuple[torch.Tensor, ...]] = float_outputs(model.graph, self.judges)

    def choose(self, max_size: float | None) -> Widths:
        if max_size is not None:
            self._uniform_bits(max_size)  # refuses what no width fits
            return self._within(max_size, self._sensitivity(self._wider(max_size)))
        measured = self._sensitivity(4)
        numbers = sum(measured.weights.values())
        found = None
        for mean in MEANS:
            found = self._within(mean * numbers / 8, measured)
            if found.loss <= TOLERATED:
                return found
        assert found is not None
        return self._within(8 * numbers / 8, measured)

    def _within(self, size: float, measured: Sensitivity) -> Widths:
        bits = allocate(measured, size)
        uniform = self._uniform_bits(size)
        same = dict.fromkeys(bits, uniform)
        found, alike = (self._distance(chosen) for chosen in (bits, same))
        if alike.soft <= found.soft:
            bits, found = same, alike
        packed = sum(measured.weights[unit] * width / 8 for unit, width in bits.items())
        return Widths(bits, packed, found.divergence, uniform, alike.divergence)

    def _uniform_bits(self, size: float) -> int:
        numbers = sum(self.sizes.values())
        fitting = [width for width in WIDTHS if numbers * width / 8 <= size]
        if not fitting:
            raise PlanError(
                f"--max-size {size:,.0f}: the weights need {numbers * min(WIDTHS) / 8:,.0f} bytes at {min(WIDTHS)} bits"
            )
        return max(fitting)

    def _wider(self, size: float) -> int:
        """The narrowest uniform width that takes at least so many bytes."""
        numbers = sum(self.sizes.values())
        return next((width for width in WIDTHS if numbers * width / 8 >= size), max(WIDTHS))

    def _sensitivity(self, start: int) -> Sensitivity:
        skeleton = with_widths(self.skeleton, dict.fromkeys(self.sizes, start))
        found = sensitivity(
            self.model.graph, skeleton, self.ranges, self.samples, self.judges,
            progress=lambda _, done, total: self.reporter.advance(done, total),
        )  # fmt: skip
        return Sensitivity({unit: found.damage[unit] for unit in self.sizes}, self.sizes)

    def _distance(self, bits: dict[str, int]) -> Distance:
        plan: Plan = method(_METHOD)(self.model.graph, with_widths(self.skeleton, bits), self.ranges, self.samples)
        return distance(self.model.graph, plan, self.judges, self.reference)


def with_widths(skeleton: Skeleton, bits: Mapping[str, int]) -> Skeleton:
    """The skeleton with these bits of weights; a unit for which the user asked something else keeps that."""
    free = {unit for unit, asked in skeleton.bits.items() if unit in bits and asked == _FREE}
    chosen = {unit: Bits(bits[unit], 8) if unit in free else asked for unit, asked in skeleton.bits.items()}
    units = (replace(u, reason=f"integer {chosen[u.name]}") if u.name in free else u for u in skeleton.units)
    return replace(skeleton, bits=chosen, units=tuple(units))
