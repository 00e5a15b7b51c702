"""The middle stages: ranges from samples, and the plan from ranges."""

import json
from dataclasses import asdict

from edgeq.calibration.divergence import divergence, float_outputs
from edgeq.calibration.methods import Method, method
from edgeq.calibration.observers import BY_NAME
from edgeq.calibration.ranges import Ranges, observe
from edgeq.errors import UsageError
from edgeq.pipeline.inputs import Model, Sets
from edgeq.pipeline.options import Options
from edgeq.plan.plan import Plan, Skeleton
from edgeq.plan.store import digest, dump, restore
from edgeq.plan.validate import validate
from edgeq.progress import Reporter
from edgeq.run_folder import RunFolder

#: What ``--method auto`` tries, cheapest first.
_AUTO = ("nearest", "bias", "gptq", "gptq+variance", "adaround")
#: A divergence (nats) so small that no method is worth its time, and the fall that makes the next one worth trying.
_GOOD = 0.005
_WORTH = 0.9
_BATCH = 64
#: Held-out samples that choose between methods.
_JUDGES = 256


def calibrate(
    options: Options, model: Model, skeleton: Skeleton, sets: Sets, folder: RunFolder, reporter: Reporter
) -> Ranges:
    """The ranges of all quantized values."""
    observer = options.observer
    if observer == "auto":
        # Sixteen steps are too few to spend them on outliers.
        observer = "mse" if options.bits.activations == 4 else "min-max"
    if observer not in BY_NAME:
        raise UsageError(f"--observer {observer}: choose from auto, {', '.join(BY_NAME)}")

    def compute() -> bytes:
        found = observe(model.module, sets.calibration, skeleton, BY_NAME[observer], progress=reporter.advance)
        return json.dumps(asdict(found)).encode()

    key = _quantization_key(options, model) | {"data": sets.digests["calibration"], "observer": observer}
    stored = json.loads(folder.stage("ranges", key, compute))
    for part in ("ranges", "extremes"):
        stored[part] = {group: (low, high) for group, (low, high) in stored[part].items()}
    return Ranges(**stored)


def quantize(
    options: Options,
    model: Model,
    skeleton: Skeleton,
    ranges: Ranges,
    sets: Sets,
    folder: RunFolder,
    reporter: Reporter,
) -> Plan:
    """The plan, checked against its written spec; ``auto`` tries methods, cheapest first, while it is worth it."""
    names = _AUTO if options.method == "auto" else (options.method,)
    methods = [method(name) for name in names]
    best: tuple[float, Plan] | None = None
    for chosen in methods:
        plan = _plan(chosen, options, model, skeleton, ranges, sets, folder, reporter)
        if len(methods) == 1 or sets.probe is None:
            return plan
        loss = _held_out(plan, model, sets, folder)
        worth = best is None or loss < _WORTH * best[0]
        if best is None or loss < best[0]:
            best = (loss, plan)
        if loss <= _GOOD or not worth:
            break
    assert best is not None
    return best[1]


def _plan(
    chosen: Method,
    options: Options,
    model: Model,
    skeleton: Skeleton,
    ranges: Ranges,
    sets: Sets,
    folder: RunFolder,
    reporter: Reporter,
) -> Plan:
    key = _quantization_key(options, model) | {
        "ranges": asdict(ranges),
        "method": chosen.name,
        "data": sets.digests["calibration"],
        "per_channel": skeleton.per_channel,
    }

    def compute() -> bytes:
        samples = model.batches(sets.calibration, _BATCH) if chosen.rounding is not None else ()
        return dump(
            chosen(
                model.graph, skeleton, ranges, samples, progress=lambda _, done, total: reporter.advance(done, total)
            )
        )

    plan = restore(folder.stage("plan", key, compute), skeleton)
    validate(model.graph, plan)
    return plan


def _held_out(plan: Plan, model: Model, sets: Sets, folder: RunFolder) -> float:
    """Mean divergence of the plan's outputs from the float model's on the probe samples."""
    assert sets.probe is not None
    probe = sets.probe

    def compute() -> bytes:
        samples = model.batches(probe.take(_JUDGES), _BATCH)
        return json.dumps(divergence(model.graph, plan, samples, float_outputs(model.graph, samples))).encode()

    key = {"plan": digest(plan), "model": model.digest, "probe": len(probe), "data": sets.digests["calibration"]}
    return float(json.loads(folder.stage("held-out", key, compute)))


def _quantization_key(options: Options, model: Model) -> dict[str, object]:
    return {
        "model": model.digest,
        "bits": str(options.bits),
        "overrides": [[pattern, str(bits)] for pattern, bits in options.overrides],
        "seed": options.seed,
    }
