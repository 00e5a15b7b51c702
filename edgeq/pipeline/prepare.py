"""The stages before an integer is chosen: the model, the devices, the samples, what is integer, and the ranges."""

from dataclasses import dataclass
from pathlib import Path

from edgeq.calibration.doctor import Finding
from edgeq.calibration.ranges import Ranges
from edgeq.devices import Profile
from edgeq.graph.graph import parameters
from edgeq.graph.macs import macs
from edgeq.pipeline.doctor import consult, told
from edgeq.pipeline.inputs import Model, Sets, check_devices, open_model, open_profiles, open_sets, request
from edgeq.pipeline.options import Options
from edgeq.pipeline.quantize import calibrate
from edgeq.pipeline.settle import evened, left_in_float, not_judged, settle
from edgeq.plan.plan import Skeleton
from edgeq.plan.rules import decide
from edgeq.progress import Reporter
from edgeq.run_folder import RunFolder


@dataclass(frozen=True, eq=False)
class Ready:
    """All that is known before an integer is chosen.

    Attributes:
        model: with its uneven channels evened out.
        profiles: the devices.
        skeleton: what is integer, with how many bits.
        sets: the samples.
        ranges: of the quantized values.
        findings: the calibration doctor's.
        notes: what the user should know of all this.
    """

    model: Model
    profiles: tuple[Profile, ...]
    skeleton: Skeleton
    sets: Sets
    ranges: Ranges
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]


def prepare(options: Options, folder: RunFolder, place: Path, reporter: Reporter) -> Ready:
    """Load the model and the samples, settle what is integer, observe the ranges, and consult the doctor."""
    reporter.start("load")
    model = open_model(options, place)
    profiles = open_profiles(options)
    asked = request(options, profiles)
    skeleton = decide(model.graph, asked)
    linted = check_devices(skeleton, profiles)
    reporter.finish(_told_model(model))
    reporter.start("data")
    sets = open_sets(options, model.graph)
    reporter.finish(f"{len(sets.calibration)} samples to calibrate, {len(sets.evaluation)} to evaluate")
    reporter.start("calibrate")
    settled, skeleton = settle(model, skeleton, asked, sets)
    even, model = evened(model, settled), settled
    ranges = calibrate(options, model, skeleton, sets, folder, reporter)
    reporter.finish(f"{len(ranges.ranges)} ranges ({ranges.observer}) from {ranges.samples} samples")
    if options.auto_bits:
        from edgeq.pipeline.widths import choose_widths, with_widths  # its solver takes a second to import

        reporter.start("bits")
        widths = choose_widths(options, model, skeleton, ranges, sets, folder, reporter)
        skeleton = with_widths(skeleton, widths.bits)
        reporter.finish(str(widths))
        linted = (*linted, f"bits: {widths}; files hold codes of fewer than 8 bits as int8, at int8 speed")
    findings = consult(model, skeleton, ranges, sets, folder)
    notes = (*told(findings), *not_judged(model.graph), *left_in_float(skeleton), *even, *linted)
    return Ready(model, profiles, skeleton, sets, ranges, findings, notes)


def _told_model(model: Model) -> str:
    total = sum(macs(model.graph, model.shapes).values())
    numbers = parameters(model.graph)
    return (
        f"{len(model.graph.nodes)} nodes, {numbers:,} parameters, {total / 1e6:,.1f} M MACs, opset {model.graph.opset}"
    )
