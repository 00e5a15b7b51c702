"""``edgeq convert``: all stages in order."""

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from edgeq import __version__
from edgeq.devices import Profile, open_device
from edgeq.errors import DeviceError
from edgeq.graph.macs import macs
from edgeq.pipeline.artifacts import File, Files, write_files
from edgeq.pipeline.by_layer import blamed, layer_rows, measure_layers, with_measured
from edgeq.pipeline.inputs import Model, Sets
from edgeq.pipeline.options import Options
from edgeq.pipeline.prepare import Ready, prepare
from edgeq.pipeline.quantize import quantize
from edgeq.pipeline.repeat import command
from edgeq.pipeline.storage import stored
from edgeq.pipeline.validate import Validation, measure, op_profile, times_by_op
from edgeq.plan.plan import Plan
from edgeq.progress import SILENT, Reporter
from edgeq.release.atomic import check_destination, scratch_folder
from edgeq.release.bundle import write_bundle
from edgeq.release.gate import gate
from edgeq.release.outcome import Judgement, Outcome
from edgeq.release.release import Artifact, Delivery, EvaluationData, Release, Slices
from edgeq.run_folder import RunFolder

_LIBRARIES = ("torch", "onnx", "onnxruntime", "ai-edge-litert", "numpy")


@dataclass(frozen=True, eq=False)
class Conversion:
    """What a run made.

    Attributes:
        release: everything measured.
        judgement: the gate's answer.
        plan: the quantization.
        folder: the release folder.
        failures: device profile -> why it could not be used.
    """

    release: Release
    judgement: Judgement
    plan: Plan
    folder: Path
    failures: Mapping[str, str]


def convert(options: Options, reporter: Reporter = SILENT) -> Conversion:
    """Quantize a model, export it, validate it on its devices, judge it, and write the release folder.

    Raises:
        EdgeqError: see ``edgeq.errors``; the release folder is then absent or the old one.
        DeviceError: no device could be used at all.
    """
    output = options.output.resolve()
    check_destination(output)
    with (
        RunFolder(output.with_name(f".{output.name}.run")) as folder,
        # Large constants lie here while they are needed; the release folder gets a copy.
        scratch_folder(folder.path, "files") as files,
    ):
        return _run_stages(options, folder, files, reporter)


def _run_stages(options: Options, folder: RunFolder, place: Path, reporter: Reporter) -> Conversion:
    ready = prepare(options, folder, place, reporter)
    model, plan, chosen = _choose(options, ready, folder, reporter)
    reporter.start("export")
    files = write_files(options, model, plan, ready.profiles, place)
    lie = stored(plan, ((file.name, file.audit) for file in files.written))
    reporter.finish(
        ", ".join(
            f"{f.name} {f.integer.size_bytes:,} B, {f.audit.integer_mac_share:.1%} of MACs integer"
            for f in files.written
        )
    )
    notes = (*ready.notes, *files.notes, *lie)
    release, failures = _measure_all(options, model, plan, ready.sets, files, notes, ready.profiles, folder, reporter)
    doctor = tuple(asdict(finding) for finding in ready.findings)
    release = replace(release, doctor=doctor, **chosen)
    judgement = gate(release, options.budgets, device_budgets=options.device_budgets)
    release = _diagnosed(options, model, plan, ready.sets, folder, reporter, release, judgement)
    reporter.start("report")
    released = {artifact.name for artifact in release.artifacts}
    contents = {name: part for file in files.written if file.name in released for name, part in file.parts.items()}
    write_bundle(options.output, release, judgement, contents, {"model": model.digest} | ready.sets.digests)
    reporter.finish(str(options.output))
    return Conversion(release, judgement, plan, options.output, failures)


def _choose(
    options: Options, ready: Ready, folder: RunFolder, reporter: Reporter
) -> tuple[Model, Plan, dict[str, Any]]:
    """The plan, the model that it is of, and what the release tells of both."""
    reporter.start("quantize")
    quantized = quantize(options, ready.model, ready.skeleton, ready.ranges, ready.sets, folder, reporter)
    model, plan, story = quantized.model, quantized.plan, quantized.story
    integer = sum(unit.integer for unit in plan.units)
    reporter.finish(f"{options.number_format}: {integer} of {len(plan.units)} ops integer ({plan.method}); {story}")
    recovery = None
    if options.recover_budget is not None:
        from edgeq.pipeline.recovery import recover_plan  # its imports cost a second that most runs need not pay

        reporter.start("recover")
        plan, recovery = recover_plan(options, model, plan, ready.sets, folder, reporter)
        reporter.finish(("kept: " if recovery.accepted else "not kept: ") + recovery.reason)
    return model, plan, {"quantization": asdict(story), "recovery": recovery}


def _diagnosed(
    options: Options,
    model: Model,
    plan: Plan,
    sets: Sets,
    folder: RunFolder,
    reporter: Reporter,
    release: Release,
    judgement: Judgement,
) -> Release:
    """The release with the diagnosis where one is wanted: asked for, or the gate did not pass."""
    wanted = judgement.quality is not Outcome.PASS if options.diagnose is None else options.diagnose
    if not wanted or sets.probe is None:
        return release
    from edgeq.pipeline.diagnosis import diagnose_plan  # its imports cost a second that most runs need not pay

    reporter.start("diagnose")
    # Its remedies say how to round and whether to recover.
    base = command(replace(options, method="auto", recover_budget=None, diagnose=None))
    found, pictures = diagnose_plan(options, model, plan, sets, folder, reporter, base)
    reporter.finish(f"{found['verdict']}: {found['cause']}")
    return replace(release, diagnosis=found, layers=blamed(release.layers, found), pictures=pictures)


def _measure_all(
    options: Options,
    model: Model,
    plan: Plan,
    sets: Sets,
    files: Files,
    notes: tuple[str, ...],
    profiles: tuple[Profile, ...],
    folder: RunFolder,
    reporter: Reporter,
) -> tuple[Release, dict[str, str]]:
    validation = Validation(options, model, plan, sets, folder, reporter)
    measurements, failures, op_times, layers = [], {}, [], []
    for profile in profiles:
        reporter.start(f"validate {profile.name}")
        try:
            with open_device(profile) as device:
                file = files.of(profile)
                measurements.append(measure(validation, device, profile, file))
                ops = op_profile(validation, device, profile, file)
                op_times += times_by_op(profile, ops)
                layers.append(measure_layers(validation, device, profile, file, ops))
        except DeviceError as error:
            failures[profile.name] = str(error)
            reporter.finish(f"could not be used: {error}")
            continue
        found = measurements[-1]
        reporter.finish(
            f"{found.deployed.metric} float {found.float_on_target.value:.4f}, simulated {found.simulated.value:.4f}, "
            f"deployed {found.deployed.value:.4f}"
        )
    if not measurements:
        raise DeviceError("; ".join(failures.values()) or "no device was asked for; name one with --device")
    release = Release(
        model=model_name(options.model),
        bits=options.number_format,
        options=public_options(options),
        versions={"edgeq": __version__, "python": platform.python_version()} | {n: version(n) for n in _LIBRARIES},
        command=command(options),
        devices=tuple(profile.name for profile in profiles),
        artifacts=tuple(a for f in files.written if _measured(f, measurements) for a in _artifacts(f)),
        evaluation=_evaluation(sets),
        measurements=tuple(measurements),
        deliveries=tuple(delivery for file in files.written for delivery in _deliveries(file, plan, model)),
        layers=with_measured(layer_rows(model, plan), plan, layers),
        op_times=tuple(op_times),
        notes=notes,
        device_limits={profile.name: _stated(profile) for profile in profiles if _stated(profile)},
    )
    return release, failures


def _artifacts(file: File) -> list[Artifact]:
    sizes = {name: len(part) if isinstance(part, bytes) else part.stat().st_size for name, part in file.parts.items()}
    return [
        Artifact(name, digest, sizes[name], "" if name == file.name else file.name)
        for name, digest in file.sha256.items()
    ]


def _measured(file: File, measurements: list[Any]) -> bool:
    return any(measurement.artifact == file.name for measurement in measurements)


def model_name(model: str) -> str:
    """A model's name without its path."""
    return model if ":" in model and not Path(model).suffix else Path(model).stem


def public_options(options: Options) -> dict[str, Any]:
    """The options as JSON, without paths."""
    content = asdict(options)
    for key in ("output", "data", "evaluation", "weights", "model"):
        content.pop(key)
    content["bits"] = options.number_format
    content["overrides"] = [[pattern, str(bits)] for pattern, bits in options.overrides]
    content["devices"] = [Path(device).stem for device in options.devices]
    return content


def _evaluation(sets: Sets) -> EvaluationData:
    labels = sets.evaluation.labels()
    slices: tuple[Slices, ...] = ()
    if labels is not None and labels.ndim == 1 and labels.dtype.kind in "iu":
        classes, ids = np.unique(labels, return_inverse=True)
        if 1 < len(classes) <= 100:
            slices = (Slices("class", tuple(str(c) for c in classes), ids.astype(np.int64)),)
    digest = sets.digests["evaluation"] if labels is None else _joined(sets.digests)
    return EvaluationData(digest, len(sets.evaluation), slices)


def _joined(digests: Mapping[str, str]) -> str:
    return hashlib.sha256((digests["evaluation"] + digests["labels"]).encode()).hexdigest()


def _deliveries(file: File, plan: Plan, model: Model) -> list[Delivery]:
    audit = file.audit
    counts = macs(model.graph, model.shapes)
    total = sum(counts.values())
    beyond = {row.unit for row in audit.rows if row.expected_float}  # which the lint has said before
    asked = sum(
        counts.get(node, 0) for unit in plan.units if unit.integer and unit.name not in beyond for node in unit.nodes
    )
    share = asked / total if total else 0.0
    kept = audit.integer_mac_share >= share - 1e-9
    rows = [
        Delivery(
            file.name,
            "integer share of MACs",
            f"{share:.1%}",
            f"{audit.integer_mac_share:.1%}",
            kept,
            "" if kept else "; ".join(row.reason for row in audit.rows if row.macs and not row.integer)[:300],
        )
    ]
    rows += [Delivery(file.name, "as planned", "yes", problem, False, problem) for problem in audit.problems]
    if not audit.problems:
        rows.append(Delivery(file.name, "codes, scales, zero points and axes", "the plan's", "the plan's", True))
    return rows


def _stated(profile: Profile) -> dict[str, float]:
    """The limits that a device profile itself states; its keys are budgets of the gate."""
    return {name: float(limit) for name, limit in asdict(profile.budgets).items() if limit is not None}
