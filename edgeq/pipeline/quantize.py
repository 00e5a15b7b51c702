"""The middle stages: ranges from samples, and the plan from ranges."""

import json
from dataclasses import asdict

from edgeq.calibration.nearest import nearest
from edgeq.calibration.observers import BY_NAME
from edgeq.calibration.ranges import Ranges, observe
from edgeq.errors import UsageError
from edgeq.pipeline.inputs import Model, Sets
from edgeq.pipeline.options import Options
from edgeq.plan.plan import Plan, Skeleton
from edgeq.plan.store import dump, restore
from edgeq.plan.validate import validate
from edgeq.progress import Reporter
from edgeq.run_folder import RunFolder


def calibrate(
    options: Options, model: Model, skeleton: Skeleton, sets: Sets, folder: RunFolder, reporter: Reporter
) -> Ranges:
    """The ranges of all quantized values."""
    if options.observer not in BY_NAME:
        raise UsageError(f"--observer {options.observer}: choose from {', '.join(BY_NAME)}")

    def compute() -> bytes:
        found = observe(model.module, sets.calibration, skeleton, BY_NAME[options.observer], progress=reporter.advance)
        return json.dumps(asdict(found)).encode()

    key = _quantization_key(options, model) | {"data": sets.digests["calibration"], "observer": options.observer}
    stored = json.loads(folder.stage("ranges", key, compute))
    for part in ("ranges", "extremes"):
        stored[part] = {group: (low, high) for group, (low, high) in stored[part].items()}
    return Ranges(**stored)


def quantize(options: Options, model: Model, skeleton: Skeleton, ranges: Ranges, sets: Sets, folder: RunFolder) -> Plan:
    """The plan, checked against its written spec."""
    if options.method != "nearest":
        raise UsageError(f"--method {options.method}: choose from nearest")
    key = _quantization_key(options, model) | {
        "ranges": asdict(ranges),
        "method": options.method,
        "data": sets.digests["calibration"],
        "per_channel": skeleton.per_channel,
    }
    plan = restore(folder.stage("plan", key, lambda: dump(nearest(model.graph, skeleton, ranges))), skeleton)
    validate(model.graph, plan)
    return plan


def _quantization_key(options: Options, model: Model) -> dict[str, object]:
    return {
        "model": model.digest,
        "bits": str(options.bits),
        "overrides": [[pattern, str(bits)] for pattern, bits in options.overrides],
        "seed": options.seed,
    }
