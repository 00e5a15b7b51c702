"""A diagnosis as one JSON object, and as lines for a person."""

import math
from collections.abc import Sequence
from typing import Any

from edgeq.basin.diagnose import Diagnosis
from edgeq.basin.reading import Reading


def to_json(diagnosis: Diagnosis, remedies: Sequence[str]) -> dict[str, Any]:
    """Plain data; numbers that are infinite or not defined are null.

    Scripts may rely on ``verdict``, ``kind``, ``D``, ``A``, ``E``, ``K``, ``R``, ``I``, ``p``, ``t_star``,
    ``repaired``, ``layers`` (name, blame, half_width, safe_bits) and ``remedy``.
    """
    trial = diagnosis.probe
    found = {
        "verdict": diagnosis.verdict.name,
        "kind": diagnosis.verdict.kind,
        "cause": diagnosis.verdict.cause,
        "evidence": list(diagnosis.verdict.evidence),
        "remedy": list(remedies),
        "task": diagnosis.task,
        **_reading(diagnosis.raw),
        "repaired": None if diagnosis.repaired is None else _reading(diagnosis.repaired),
        "accuracy": diagnosis.accuracy,
        "loss": diagnosis.loss,
        "layers": [
            {
                "name": layer.name,
                "bits": layer.bits,
                "blame": layer.blame,
                "half_width": None if layer.width is None else layer.width.half_width,
                "grid_over_width": None if layer.width is None else layer.width.grid_over_width,
                "safe_bits": None if layer.width is None else layer.width.safe_bits,
            }
            for layer in diagnosis.layers
        ],
        "dither": list(diagnosis.dither),
        "rounded": None if diagnosis.rounded is None else diagnosis.rounded.D,
        "probe": None
        if trial is None
        else {
            "steps": list(trial.steps),
            "deployed": list(trial.deployed),
            "latent": list(trial.latent),
            "flipped": trial.flipped,
            "fall": trial.fall,
        },
        "samples": diagnosis.samples,
        "cost": {
            "passes": diagnosis.cost.passes,
            "promised_seconds": diagnosis.cost.seconds,
            "promised_healthy_seconds": diagnosis.cost.healthy_seconds,
            "seconds": diagnosis.seconds,
        },
    }
    plain: dict[str, Any] = _plain(found)
    return plain


def _reading(reading: Reading) -> dict[str, Any]:
    agreement, inward = reading.A, reading.I
    return {
        "D": reading.D.estimate,
        "D_interval": [reading.D.low, reading.D.high],
        "A": None if agreement is None else agreement.changed,
        "A_upper": None if agreement is None else agreement.upper,
        "E": None if reading.E is None else reading.E.value,
        "E_upper": None if reading.E is None else reading.E.upper,
        "K": reading.K,
        "R": reading.R.estimate,
        "R_interval": [reading.R.low, reading.R.high],
        "I": None if inward is None else inward.value,
        "I_p_value": None if inward is None else inward.p_value,
        "p": reading.p.estimate,
        "p_interval": [reading.p.low, reading.p.high],
        "t_star": reading.t_star,
        "exit_ratio": reading.exit_ratio,
        "edge": reading.path.edge,
        "steepest": reading.steepest,
        "behind": reading.path.behind,
        "weights_D": reading.weights_D,
        "activations_share": reading.activations_share,
        "path": {"t": list(reading.path.ts), "phi": [float(v) for v in reading.path.phi]},
        "exponents": list(reading.path.exponents),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def lines(diagnosis: Diagnosis, remedies: Sequence[str], most: int = 8) -> tuple[str, ...]:
    """The diagnosis in words: verdict, evidence, the layers to blame, what to do."""
    found = [f"{diagnosis.verdict.name.upper()}: {diagnosis.verdict.cause}"]
    found += [f"  {line}" for line in diagnosis.verdict.evidence]
    if diagnosis.accuracy is not None:
        losses = diagnosis.loss or {}
        told = [f"{k} {100 * v:.1f} %" + (f", loss {losses[k]:.3g}" if k in losses else "")
                for k, v in diagnosis.accuracy.items()]  # fmt: skip
        found.append("  with labels: " + "; ".join(told))
    if diagnosis.layers:
        width = max(len(layer.name) for layer in diagnosis.layers[:most])
        found.append(f"{'layer':<{width}}  bits  share of D  grid/width  fewest safe bits")
        total = sum(max(layer.blame, 0) for layer in diagnosis.layers) or 1.0
        for layer in diagnosis.layers[:most]:
            ratio = "" if layer.width is None else f"{layer.width.grid_over_width:.2f}"
            safe = "" if layer.width is None else str(layer.width.safe_bits or "over 8")
            found.append(
                f"{layer.name:<{width}}  {layer.bits:>4}  {layer.blame / total:>9.0%}  {ratio:>10}  {safe:>16}"
            )
    found += ["next:", *(f"  {command}" for command in remedies)]
    return tuple(found)
