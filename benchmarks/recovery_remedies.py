"""Where training at the asked bits does not bring a model back: what helps next, in as many steps?

    python benchmarks/recovery_remedies.py                     # both rows; results/recovery_remedies.md and .json
    python benchmarks/recovery_remedies.py kws_dscnn-w2a8 --steps 400

From one start, second-order rounding with corrected variances, the same number of updates each:

    all layers      plain recovery
    blamed layers   only the weights and biases of the two, and of the four, layers that have most of the loss
    progressive     half of the updates with a bit more for weights, and activations where these are few; what comes
                    of it is rounded anew to the asked bits and trained for the other half
    more bits       8 for the two layers that have most of the loss, for weights and activations, then plain recovery

A layer's share of the loss is how much its float weights bring down the divergence on held-out samples. A row says what
came out of the training, whether it would be kept or not; judged on labelled test samples that nothing else has seen.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from recovery import judged, outputs, start, top1, with_weights
from recovery_cases import CASES, MODELS, Case, Data

from edgeq.graph.execute import to_torch
from edgeq.graph.graph import Graph
from edgeq.plan.bits import Bits
from edgeq.plan.plan import Plan, Skeleton
from edgeq.plan.rules import decide
from edgeq.plan.wider import wider
from edgeq.recovery import Budget, Shuffled, recover
from edgeq.recovery.latents import begin
from edgeq.recovery.logits import as_outputs
from edgeq.recovery.outcome import Options, RecoveryResult
from edgeq.recovery.teacher import Teacher
from edgeq.recovery.watch import HeldOut, divergence_of, split
from edgeq.simulate import Simulation

RESULTS = Path(__file__).parent / "results"
ROWS = ("kws_dscnn-w2a8", "resnet20-w2a2")
TESTED = 2000


def main() -> None:
    """Run the rows that are named and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", choices=[*CASES, []], help=" and ".join(ROWS) + " where none is named")
    parser.add_argument("--steps", type=int, default=400)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for row in options.rows or ROWS:
        for remedy, found in _Row(CASES[row], options.steps).remedies():
            print(row, remedy, found, flush=True)
            _merge(f"{row}, {options.steps} steps, {remedy}", found)


class _Row:
    """One start and what is made of it."""

    def __init__(self, case: Case, steps: int) -> None:
        model = MODELS[case.model]
        self.case, self.steps, self.batch, self.graph = case, steps, model.batch, model.graph()
        data = model.data()
        self.data = Data(data.train, data.held_out, (data.test[0][:TESTED], data.test[1][:TESTED]))
        self.calibration = data.train[0][: model.calibration]
        self.reference = outputs(to_torch(self.graph), self.data.test[0])
        self.held_out = [(part,) for part in data.held_out.split(128)]
        self.skeleton = decide(self.graph, case.request(self.graph))
        self.plan = self._start(self.graph, self.skeleton)

    def remedies(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """(what was done, what came of it)."""
        yield "start", self._judged(self.plan)
        blamed = self._blamed()
        yield "all layers", self._trained(self.plan, self.steps)
        for count in (2, 4):
            layers = frozenset(blamed[:count])
            yield f"{count} blamed layers", self._trained(self.plan, self.steps, Options(layers=layers))
        yield "progressive", self._progressive()
        wide = wider(self.skeleton, tuple(blamed[:2]))
        yield "more bits for 2", self._trained(self._start(self.graph, wide), self.steps)

    def _start(self, graph: Graph, skeleton: Skeleton) -> Plan:
        return start(graph, skeleton, self.calibration, "gptq+variance")

    def _recover(self, plan: Plan, steps: int, options: Options | None = None) -> RecoveryResult:
        samples = Shuffled((self.data.train[0],), self.batch, seed=0)
        return recover(self.graph, plan, samples, self.held_out, Budget(steps=steps), options=options)

    def _trained(self, plan: Plan, steps: int, options: Options | None = None) -> dict[str, Any]:
        result = self._recover(plan, steps, options)
        found = {"before": result.before.mean, "divergence": result.after.mean, "kept": result.kept}
        return found | self._judged(result.plan)

    def _progressive(self) -> dict[str, Any]:
        bits = self.case.bits
        assert bits.weights is not None
        few = bits.activations is not None and bits.activations < 8
        wide = Bits(bits.weights + 1, bits.activations + 1 if few and bits.activations else bits.activations)
        skeleton = decide(self.graph, replace(self.case, bits=wide).request(self.graph))
        first = self._recover(self._start(self.graph, skeleton), self.steps // 2).plan
        trained = with_weights(self.graph, {name: constant.real for name, constant in first.weights.items()})
        return self._trained(self._start(trained, self.skeleton), self.steps - self.steps // 2)

    def _blamed(self) -> list[str]:
        """The layers of few bits, by how much their float weights bring down the divergence."""
        teacher = Teacher(self.graph, torch.device("cpu"))
        watched, _ = split(self.held_out, None, teacher, divergence_of(teacher, self.held_out, None))
        few = {name for name, bits in self.skeleton.bits.items() if bits == self.case.bits}
        layers = {u.name: u.weight for u in self.plan.units if u.weight is not None and u.name in few}
        left = {name: self._without(weight, watched) for name, weight in layers.items()}
        return sorted(left, key=left.__getitem__)

    def _without(self, weight: str, watched: HeldOut) -> float:
        simulation = Simulation(self.graph, self.plan)
        begin(simulation, self.graph)
        simulation.weights[weight].enabled = False
        return watched.scores(lambda inputs: as_outputs(simulation(*inputs))).mean

    def _judged(self, plan: Plan) -> dict[str, Any]:
        return judged(self.graph, plan, self.data, top1, self.reference)


def _merge(key: str, found: dict[str, Any]) -> None:
    file = RESULTS / "recovery_remedies.json"
    results: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    results[key] = found
    file.write_text(json.dumps(results, indent=1) + "\n")
    lines = ["| row | held-out divergence before | after | kept | top-1 | as float |", "|---|---|---|---|---|---|"]
    for row, r in results.items():
        trained = (
            f"{r['before']:.3f} | {r['divergence']:.3f} | {'yes' if r['kept'] else 'no'}" if "kept" in r else " | |"
        )
        lines.append(f"| {row} | {trained} | {r['metric']:.2f} | {r['agreement']:.1f} |")
    text = "Written by `python benchmarks/recovery_remedies.py`.\n\n" + "\n".join(lines) + "\n"
    (RESULTS / "recovery_remedies.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
