"""Did I get what I asked? The files, read back, against the plan."""

from collections.abc import Iterator

from edgeq.release.checks.subject import Subject
from edgeq.release.outcome import Check
from edgeq.release.show import show

_TOLD = 3


def delivered(subject: Subject) -> Iterator[Check]:
    """Every line of the audit of this device's file is as asked."""
    if not subject.budgets.delivered:
        return
    artifact = subject.measurement.artifact
    lines = [line for line in subject.release.deliveries if line.artifact == artifact]
    if not lines:
        yield subject.missing("delivered", None, f"{artifact} was not audited against the plan: export it again")
        return
    broken = [line for line in lines if not line.kept]
    if broken:
        told = "; ".join(f"{line.item}: asked {line.asked}, delivered {line.delivered}" for line in broken[:_TOLD])
        reason = f"{artifact}: {len(broken)} of {len(lines)} items are not as asked: {told}"
        reason += " ..." if len(broken) > _TOLD else ""
        reason += f" ({broken[0].reason})" if broken[0].reason else ""
    else:
        reason = f"{artifact}: all {len(lines)} items are as asked"
    yield subject.compared("delivered", len(lines) - len(broken), len(lines), not broken, reason, "score")


def integer_share(subject: Subject) -> Iterator[Check]:
    """Share of MACs in integer kernels."""
    limit, share = subject.budgets.integer_share, subject.measurement.integer_mac_share
    if limit is None:
        return
    if not 0 <= share <= 1:
        yield subject.missing("integer_share", limit, "the integer share was not measured: audit the file", "share")
        return
    kept = share >= limit - 1e-9
    reason = f"{show(share, 'share')} of the MACs run in integer kernels"
    floats = [layer.name for layer in subject.release.layers if not layer.integer and (layer.macs or 0) > 0]
    if not kept and floats:
        reason += f"; float: {', '.join(floats[:3])}{' ...' if len(floats) > 3 else ''}"
    yield subject.compared("integer_share", share, limit, kept, reason, "share")
