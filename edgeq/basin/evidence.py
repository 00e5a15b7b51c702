"""The numbers behind a verdict, one line each, for a person."""

from edgeq.basin.probe import Probe
from edgeq.basin.reading import Reading


def evidence(raw: Reading, repaired: Reading | None, rounded: float | None, trained: Probe | None) -> tuple[str, ...]:
    """The candidate as given, repaired, and what the trials of rounding and training reached."""
    found = _facts(raw)
    if repaired is not None:
        found += _facts(repaired, "repaired: ")
    if rounded is not None:
        found.append(f"trial of better rounding on the same grid: held-out D {rounded:.3g}")
    if trained is not None:
        curve = " -> ".join(f"{value:.3g}" for value in trained.deployed)
        flipped = f"{100 * trained.flipped:.1f} % of the codes flipped"
        found.append(f"trial of training, {trained.steps[-1]} steps: held-out D {curve}, {flipped}")
    return tuple(found)


def _facts(reading: Reading, prefix: str = "") -> list[str]:
    low, high = reading.D.low, reading.D.high
    found = [f"{prefix}D {reading.D.estimate:.3g} [{low:.3g}, {high:.3g}]; a uniform guess has {reading.chance:.2g}"]
    if reading.A is not None:
        changed, bound = 100 * reading.A.changed, 100 * reading.A.upper
        found.append(f"{prefix}{changed:.1f} % of {reading.A.decisions} decisions changed, at most {bound:.1f} %")
    if reading.E is not None:
        found[-1] += f"; by the float model's probabilities that costs {100 * reading.E.value:.2f} points"
    found.append(
        f"{prefix}steepest exponent {reading.steepest:.2f}, at the end {reading.p.estimate:.2f} (a bowl has 2); "
        f"R {reading.R.estimate:.2f}; t* {reading.t_star:.2f}"
    )
    if reading.activations_share > 0.05:
        found.append(f"{prefix}quantized activations add {100 * reading.activations_share:.0f} % of D")
    return found
