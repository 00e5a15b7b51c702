"""report.json: the release and its judgement for machines, written and read back.

Its form is published as report.schema.json beside this file. `schema_version` grows when a name is taken away or
changes its meaning; names may be added within a version. Numbers that are not finite are null.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.errors import DataError
from edgeq.measurement import DeviceInfo, Evaluation, Interval, Latency, LatencyComparison, Measurement, Parity
from edgeq.release import samples
from edgeq.release.budgets import Budgets
from edgeq.release.checks.accuracy import agreeing
from edgeq.release.numbers import drop_of, value_interval
from edgeq.release.outcome import Check, Judgement, Outcome
from edgeq.release.release import (
    Artifact,
    Delivery,
    EvaluationData,
    Layer,
    OpTime,
    Picture,
    Recovery,
    RecoveryPoint,
    Release,
    Slices,
)

SCHEMA_VERSION = 1


def report_schema() -> dict[str, Any]:
    """The published JSON Schema of report.json."""
    schema: dict[str, Any] = json.loads(resources.files("edgeq.release").joinpath("report.schema.json").read_text())
    return schema


def report_json(release: Release, judgement: Judgement) -> bytes:
    """The report as UTF-8 JSON, with sorted keys."""
    content = {
        "schema_version": SCHEMA_VERSION,
        "model": release.model,
        "bits": release.bits,
        "outcome": judgement.outcome.value,
        "summary": judgement.sentence,
        "checks": [asdict(check) for check in judgement.checks],
        "devices": {m.device.profile: _device(m) for m in release.measurements},
        "asked_devices": list(release.devices),
        "device_limits": {profile: dict(limits) for profile, limits in release.device_limits.items()},
        "evaluation": {
            "digest": release.evaluation.digest,
            "samples": release.evaluation.samples,
            "slices": [
                {"column": s.column, "names": list(s.names), "ids": samples.encode(s.ids)}
                for s in release.evaluation.slices
            ],
        },
        "artifacts": [_artifact(artifact) for artifact in release.artifacts],
        "deliveries": [asdict(delivery) for delivery in release.deliveries],
        "layers": [asdict(layer) for layer in release.layers],
        "op_times": [asdict(time) for time in release.op_times],
        "diagnosis": release.diagnosis,
        "quantization": release.quantization,
        "doctor": list(release.doctor),
        "recovery": None if release.recovery is None else asdict(release.recovery),
        "pictures": [asdict(picture) for picture in release.pictures],
        "options": dict(release.options),
        "versions": dict(release.versions),
        "command": release.command,
        "notes": list(release.notes),
    }
    return json.dumps(_finite(content), indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False).encode() + b"\n"


def read_report(path: Path) -> tuple[Release, Judgement]:
    """Read report.json, or the one inside a release folder.

    Raises:
        DataError: it is missing, is not a report, or has a version that this edgeq does not read.
    """
    path = path / "report.json" if path.is_dir() else path
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: no report to read ({error.strerror}); run `edgeq convert` first") from error
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}); build the release again") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise DataError(f"{path}: schema version {version!r} is not {SCHEMA_VERSION}; use the edgeq that wrote it")
    try:
        return _release(content), Judgement(tuple(_check(check) for check in content["checks"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{path}: not a whole report ({reason}); build the release again") from error


def _artifact(artifact: Artifact) -> dict[str, Any]:
    told = asdict(artifact)
    return told if artifact.part_of else {key: value for key, value in told.items() if key != "part_of"}


def _device(measurement: Measurement) -> dict[str, Any]:
    counts, drop = agreeing(measurement), drop_of(measurement)
    agreement = measurement.agreement
    return {
        "artifact": measurement.artifact,
        "device": asdict(measurement.device),
        "metric": {
            "name": measurement.deployed.metric,
            "float_on_target": _mean(measurement.float_on_target),
            "simulated": _mean(measurement.simulated),
            "deployed": _mean(measurement.deployed),
            "deployed_interval": _interval(value_interval(measurement.deployed)),
            "drop": _interval(drop),
        },
        "agreement": _interval(agreement),
        "agreeing": None if counts is None else {"decisions": counts[0], "samples": counts[1]},
        "parity": {
            "compared": measurement.parity.compared,
            "unequal": measurement.parity.unequal,
            "histogram": [[steps, number] for steps, number in sorted(measurement.parity.histogram.items())],
            "decisions_agree": measurement.parity.decisions_agree,
        },
        "latency": None if measurement.latency is None else asdict(measurement.latency),
        "size": {"bytes": measurement.size_bytes, "float_bytes": measurement.float_size_bytes},
        "integer_mac_share": measurement.integer_mac_share,
        "notes": list(measurement.notes),
        "samples": {
            "float_on_target": _evaluation(measurement.float_on_target),
            "simulated": _evaluation(measurement.simulated),
            "deployed": _evaluation(measurement.deployed),
        },
    }


def _mean(evaluation: Evaluation) -> float | None:
    return evaluation.value if evaluation.scores.size else None


def _interval(interval: Interval | None) -> dict[str, float] | None:
    return None if interval is None else asdict(interval)


def _evaluation(evaluation: Evaluation) -> dict[str, Any]:
    return {
        "metric": evaluation.metric,
        "count": int(evaluation.scores.size),
        "scores": samples.encode(evaluation.scores),
        "decisions": None if evaluation.decisions is None else samples.encode(evaluation.decisions),
    }


def _finite(value: Any) -> Any:
    """The same value for JSON: tuples as lists, NumPy numbers as Python's, not-a-number and infinities as null."""
    match value:
        case Mapping():
            return {str(key): _finite(item) for key, item in value.items()}
        case list() | tuple():
            return [_finite(item) for item in value]
        case np.generic():
            return _finite(value.item())
        case float() if not math.isfinite(value):
            return None
        case _:
            return value


def _release(content: Mapping[str, Any]) -> Release:
    evaluation = content["evaluation"]
    return Release(
        model=content["model"],
        bits=content["bits"],
        options=content["options"],
        versions=content["versions"],
        command=content["command"],
        devices=tuple(content["asked_devices"]),
        artifacts=tuple(Artifact(**artifact) for artifact in content["artifacts"]),
        evaluation=EvaluationData(
            evaluation["digest"],
            evaluation["samples"],
            tuple(_slices(slices, evaluation["samples"]) for slices in evaluation["slices"]),
        ),
        measurements=_measurements(content["devices"], content["asked_devices"]),
        deliveries=tuple(Delivery(**delivery) for delivery in content["deliveries"]),
        layers=tuple(Layer(**layer) for layer in content["layers"]),
        op_times=tuple(OpTime(**time) for time in content["op_times"]),
        diagnosis=content["diagnosis"],
        quantization=content["quantization"],
        doctor=tuple(content["doctor"]),
        recovery=_recovery(content["recovery"]),
        pictures=tuple(Picture(**picture) for picture in content["pictures"]),
        notes=tuple(content["notes"]),
        device_limits={profile: _limits(limits) for profile, limits in content["device_limits"].items()},
    )


def _limits(value: Mapping[str, Any]) -> dict[str, float]:
    Budgets().with_limits(value)  # refuses names that are no budgets
    return {name: float(limit) for name, limit in value.items()}


def _slices(value: Mapping[str, Any], number: int) -> Slices:
    return Slices(value["column"], tuple(value["names"]), samples.decode(value["ids"], np.int64, number))


def _recovery(value: Mapping[str, Any] | None) -> Recovery | None:
    if value is None:
        return None
    points = tuple(RecoveryPoint(**{**point, "loss": _number(point["loss"])}) for point in value["points"])
    return Recovery(value["method"], points, value["accepted"], value["reason"])


def _measurements(devices: Mapping[str, Any], asked: list[str]) -> tuple[Measurement, ...]:
    """In the order in which the devices were asked for."""
    return tuple(_measurement(devices[name]) for name in dict.fromkeys([*asked, *devices]) if name in devices)


def _measurement(value: Mapping[str, Any]) -> Measurement:
    parity, latency, agreement = value["parity"], value["latency"], value["agreement"]
    device = {**value["device"], "cpu_features": tuple(value["device"]["cpu_features"])}
    return Measurement(
        device=DeviceInfo(**device),
        artifact=value["artifact"],
        float_on_target=_read_evaluation(value["samples"]["float_on_target"]),
        simulated=_read_evaluation(value["samples"]["simulated"]),
        deployed=_read_evaluation(value["samples"]["deployed"]),
        agreement=None if agreement is None else _read_interval(agreement),
        parity=Parity(
            parity["compared"],
            parity["unequal"],
            {int(steps): int(number) for steps, number in parity["histogram"]},
            parity["decisions_agree"],
        ),
        latency=None if latency is None else _read_latency(latency),
        size_bytes=value["size"]["bytes"],
        float_size_bytes=value["size"]["float_bytes"],
        integer_mac_share=_number(value["integer_mac_share"]),
        notes=tuple(value["notes"]),
    )


def _read_evaluation(value: Mapping[str, Any]) -> Evaluation:
    decisions = value["decisions"]
    return Evaluation(
        value["metric"],
        samples.decode(value["scores"], np.float64, value["count"]),
        None if decisions is None else samples.decode(decisions, np.int64, value["count"]),
    )


def _read_latency(value: Mapping[str, Any]) -> LatencyComparison:
    reference, candidate = (
        Latency(
            median_ms=_number(value[name]["median_ms"]),
            p90_ms=_number(value[name]["p90_ms"]),
            runs=value[name]["runs"],
            start_up_ms=_number(value[name]["start_up_ms"]),
            peak_memory_bytes=value[name]["peak_memory_bytes"],
        )
        for name in ("reference", "candidate")
    )
    return LatencyComparison(reference, candidate, _read_interval(value["ratio"]))


def _read_interval(value: Mapping[str, Any]) -> Interval:
    return Interval(*(_number(value[name]) for name in ("estimate", "low", "high", "level")))


def _number(value: float | None) -> float:
    """A number as it was measured; null was not a finite one."""
    return math.nan if value is None else float(value)


def _check(value: Mapping[str, Any]) -> Check:
    return Check(**{**value, "outcome": Outcome(value["outcome"])})
