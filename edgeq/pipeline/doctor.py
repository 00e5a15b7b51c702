"""The calibration doctor as a stage: do the samples suffice, does evaluation leave their ranges, is the input right?"""

import json
from dataclasses import asdict

import numpy as np

from edgeq.calibration.divergence import float_outputs
from edgeq.calibration.doctor import Finding, coverage, preprocessing, sufficiency
from edgeq.calibration.ranges import Ranges
from edgeq.pipeline.inputs import Model, Sets
from edgeq.plan.plan import Skeleton
from edgeq.run_folder import RunFolder

_BATCH = 64
#: Evaluation samples that are looked at.
_LOOKED_AT = 256


def consult(model: Model, skeleton: Skeleton, ranges: Ranges, sets: Sets, folder: RunFolder) -> tuple[Finding, ...]:
    """What the doctor found, worst of each kind first."""

    def compute() -> bytes:
        some = sets.evaluation.take(_LOOKED_AT)
        samples = model.batches(some, _BATCH)
        # A range that was cut on purpose is no mismatch: what was seen is the measure.
        found = [*sufficiency(ranges), *coverage(model.module, samples, skeleton, ranges.extremes)]
        labels = some.labels()
        usable = labels is not None and labels.ndim == 1 and labels.dtype.kind in "iu"
        outputs = [batch[0] for batch in float_outputs(model.graph, samples)]
        found += preprocessing(outputs, np.asarray(labels) if usable else None)
        return json.dumps([asdict(finding) for finding in found]).encode()

    key = {
        "model": model.digest,
        "ranges": asdict(ranges),
        "data": sets.digests["evaluation"],
        "labels": sets.digests.get("labels", ""),
    }
    return tuple(Finding(**finding) for finding in json.loads(folder.stage("doctor", key, compute)))


def told(findings: tuple[Finding, ...]) -> tuple[str, ...]:
    """One sentence for each kind of finding: the worst of it, and how many more there are."""
    sentences = []
    for kind in dict.fromkeys(finding.kind for finding in findings):
        alike = [finding for finding in findings if finding.kind == kind]
        where = f" at {alike[0].where}" if alike[0].where else ""
        more = f" (and {len(alike) - 1} more values)" if len(alike) > 1 else ""
        sentences.append(f"calibration: {kind}{where}, {alike[0].measured:.2%}{more}: {alike[0].advice}")
    return tuple(sentences)
