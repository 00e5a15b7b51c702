"""Calibration, probe and evaluation samples kept apart: seeded disjoint splits, and overlaps refused by content."""

from collections.abc import Mapping

import numpy as np

from edgeq.calibration.data import Dataset
from edgeq.errors import DataError


def split(dataset: Dataset, counts: Mapping[str, int], seed: int = 0) -> dict[str, Dataset]:
    """Disjoint parts of one dataset, drawn by seed; equal samples are drawn once, so that no two parts share content.

    Args:
        dataset: what to divide.
        counts: part -> how many samples.
        seed: the same seed gives the same parts.

    Raises:
        DataError: there are too few distinct samples; the message says how many.
    """
    wanted = sum(counts.values())
    first: dict[bytes, int] = {}
    for index, digest in enumerate(dataset.hashes):
        first.setdefault(digest, index)
    distinct = np.array(sorted(first.values()), dtype=np.int64)
    if len(distinct) < wanted:
        parts = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise DataError(
            f"{dataset.name} holds {len(distinct)} distinct samples of {len(dataset)}, too few for {parts}; "
            f"give {wanted}, or a file for each"
        )
    order = distinct[np.random.default_rng(seed).permutation(len(distinct))]
    found: dict[str, Dataset] = {}
    start = 0
    for name, count in counts.items():
        found[name] = dataset.subset(order[start : start + count])
        start += count
    return found


def refuse_overlap(sets: Mapping[str, Dataset]) -> None:
    """Raise DataError if two of the named sets hold a sample of equal content."""
    owner: dict[bytes, tuple[str, int]] = {}
    for name, dataset in sets.items():
        shared = [(i, owner[h]) for i, h in enumerate(dataset.hashes) if h in owner]
        if shared:
            index, (other, other_index) = shared[0]
            raise DataError(
                f"{len(shared)} of {len(dataset)} {name} samples are also {other} samples (sample "
                f"{dataset.indices[index]} of {dataset.name} equals sample {sets[other].indices[other_index]} of "
                f"{sets[other].name}); keep the sets apart, or the result means nothing"
            )
        owner.update((digest, (name, i)) for i, digest in enumerate(dataset.hashes))
