"""How much of what quantization lost does recovery bring back, without labels?

    python benchmarks/recovery.py                        # all rows; results/recovery.json and recovery.md
    python benchmarks/recovery.py resnet20-w3a8 kws_dscnn-w2a8 --threads 2 --budget 2min

Each row: float, the start (GPTQ with corrected variances, or round to nearest with the statistics repair), the
recovered plan, and the control: the float model trained for as many steps of equal size *with* labels and then
quantized by the same method. Judged on labelled test samples that nothing else has seen. The recovered plan is exported
and run in ONNX Runtime, and in LiteRT where it has kernels for the bits; weight-only rows are not exported. A row
replaces its earlier result; times are of this process.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import torch
from ai_edge_litert.interpreter import Interpreter
from recovery_cases import CASES, MODELS, Case, Data
from torch.nn import functional

from edgeq.calibration.methods import method
from edgeq.calibration.migration import migrated, migrations
from edgeq.calibration.nearest import nearest
from edgeq.calibration.observers import MinMax, Mse
from edgeq.calibration.ranges import observe
from edgeq.calibration.repair import repair
from edgeq.errors import PlanError
from edgeq.exporters.onnx import export
from edgeq.exporters.tflite.export import export as export_tflite
from edgeq.graph.execute import to_torch
from edgeq.graph.graph import Graph
from edgeq.plan.plan import Plan, Skeleton
from edgeq.plan.rules import decide
from edgeq.recovery import Budget, Progress, Recipe, Shuffled, recover
from edgeq.recovery.rates import weight_unit
from edgeq.simulate import Simulation
from edgeq.simulate.integer import IntegerSimulation
from edgeq.simulate.kernels import family

RESULTS = Path(__file__).parent / "results"
#: Samples that the integer simulation runs on too; it is slow.
_EXACT = 100
Run = Callable[[torch.Tensor], torch.Tensor]


def main() -> None:
    """Run the rows that are named, or all, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", choices=[*CASES, []], help="all where none is named")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--budget", help="instead of the rows' steps, for example 2min")
    parser.add_argument("--start", default="gptq+variance", help="any method of edgeq.calibration.methods")
    parser.add_argument("--no-control", action="store_true")
    parser.add_argument("--rate", type=float, help="instead of the automatic rate")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    RESULTS.mkdir(exist_ok=True)
    for row in options.rows or CASES:
        found = measure(row, CASES[row], options)
        file = RESULTS / "recovery.json"
        results = json.loads(file.read_text()) if file.exists() else {}
        key = row if options.start == "gptq+variance" else f"{row} from {options.start}"
        key += f" at rate {options.rate}" if options.rate else ""
        results[key if options.budget is None else f"{key} in {options.budget}"] = found
        file.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
        (RESULTS / "recovery.md").write_text(table(results), encoding="utf-8")


def measure(row: str, case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """One row."""
    model = MODELS[case.model]
    data = model.data()
    graph, skeleton = prepared(model.graph(), case, data.train[0][: model.calibration])
    began = time.process_time()
    plan = start(graph, skeleton, data.train[0][: model.calibration], options.start)
    start_seconds = time.process_time() - began
    metric = cosine if data.test[1].is_floating_point() else nll if data.test[1].ndim > 1 else top1
    float_run = to_torch(graph)
    reference = outputs(float_run, data.test[0])
    found: dict[str, Any] = {"metric": metric.__name__, "start": plan.method, "start CPU s": start_seconds}
    found["float"] = metric(reference, data.test[1])
    found["before"] = judged(graph, plan, data, metric, reference)
    print(row, found, flush=True)
    budget = Budget.parse(options.budget) if options.budget else Budget(steps=case.steps)
    samples = Shuffled((data.train[0],), model.batch, seed=options.seed)
    held_out = [(part,) for part in data.held_out.split(128)]
    began = time.process_time()
    result = recover(graph, plan, samples, held_out, budget, recipe=Recipe(rate=options.rate), progress=printed())
    found |= {
        "steps": result.steps,
        "CPU s": time.process_time() - began,
        "wall s": result.seconds,
        "threads": options.threads,
        "kept": result.kept,
        "reason": result.reason,
        "warnings": result.warnings,
        "curve": [asdict(point) for point in result.curve],
        "after": judged(graph, result.plan, data, metric, reference),
        "machine": f"{platform.machine()}, torch {torch.__version__}",
    }
    if result.plan.activations and metric is not nll:
        found["deployed"] = deployed(graph, result.plan, data, metric)
    if not options.no_control and metric is not cosine:
        found["control"] = control(graph, skeleton, data, result.steps, model.batch, metric, options)
    print(row, {k: v for k, v in found.items() if k != "curve"}, flush=True)
    return found


def prepared(graph: Graph, case: Case, samples: torch.Tensor) -> tuple[Graph, Skeleton]:
    """The graph and what is integer of it; a transformer's uneven channels evened out, as ``edgeq convert`` does."""
    skeleton = decide(graph, case.request(graph))
    found = migrations(graph, skeleton, [(part,) for part in samples[:64].split(16)])
    if not found:
        return graph, skeleton
    graph, added = migrated(graph, found)
    return graph, decide(graph, case.request(graph), added)


def start(graph: Graph, skeleton: Skeleton, samples: torch.Tensor, name: str, *, repaired: bool = True) -> Plan:
    """The plan before recovery; that of rounding to nearest with its statistics repaired."""
    batches = [(part,) for part in samples.split(64)]
    low = any(skeleton.bits[u.name].activations in (2, 3, 4) for u in skeleton.units if u.integer)
    ranges = observe(to_torch(graph), batches, skeleton, Mse if low else MinMax)
    plan = method(name)(graph, skeleton, ranges, batches)
    return repair(graph, plan, [(samples,)]) if repaired and name == "nearest" and plan.activations else plan


@torch.no_grad()
def outputs(run: Run, x: torch.Tensor) -> torch.Tensor:
    """A model's outputs on all samples."""
    return torch.cat([run(part) for part in x.split(100)])


def top1(scores: torch.Tensor, labels: torch.Tensor) -> float:
    """Accuracy in percent."""
    return 100 * float((scores.argmax(1) == labels).float().mean())


def nll(scores: torch.Tensor, labels: torch.Tensor) -> float:
    """Negative log-likelihood of the next token, in nats."""
    return float(functional.cross_entropy(scores.flatten(0, 1), labels.flatten()))


def cosine(embeddings: torch.Tensor, reference: torch.Tensor) -> float:
    """Mean cosine with the float model's embeddings."""
    return float(functional.cosine_similarity(embeddings, reference).mean())


def decisions(outputs: torch.Tensor, metric: Callable[..., float]) -> torch.Tensor:
    """The class of every sample or position; of embeddings the nearest other sample."""
    if metric is not cosine:
        return outputs.argmax(-1)
    return (outputs @ outputs.T).fill_diagonal_(-1).argmax(1)


def judged(
    graph: Graph, plan: Plan, data: Data, metric: Callable[..., float], reference: torch.Tensor
) -> dict[str, float]:
    """A plan's metric and agreement with the float model on the test samples."""
    scores = outputs(Simulation(graph, plan), data.test[0])
    agreement = 100 * float((decisions(scores, metric) == decisions(reference, metric)).float().mean())
    return {"metric": metric(scores, data.test[1]), "agreement": agreement}


def deployed(graph: Graph, plan: Plan, data: Data, metric: Callable[..., float]) -> dict[str, Any]:
    """The exported files in their runtimes: accuracy, and agreement of their decisions with the simulation's.

    That simulation is the one that was trained, in float; the integer one, which ``edgeq convert`` compares with, is to
    have the runtime's own outputs.
    """
    x, y = data.test[0][:2000], data.test[1][:2000]
    simulated = outputs(Simulation(graph, plan), x)
    found: dict[str, Any] = {"samples": len(x), "simulated": metric(simulated, y)}
    for runtime, run, kernels in (("ONNX Runtime", in_onnxruntime, "onnxruntime"), ("LiteRT", in_litert, "xnnpack")):
        try:
            scores = run(graph, plan, x)
        except PlanError as refused:
            found[runtime] = {"refused": str(refused)}
            continue
        agreement = 100 * float((decisions(scores, metric) == decisions(simulated, metric)).float().mean())
        exact = decisions(outputs(IntegerSimulation(graph, plan, family(kernels)), x[:_EXACT]), metric)
        agrees = float((exact == decisions(scores[:_EXACT], metric)).float().mean())
        found[runtime] = {"metric": metric(scores, y), "agreement": agreement, "integers": 100 * agrees}
    return found


def in_onnxruntime(graph: Graph, plan: Plan, x: torch.Tensor) -> torch.Tensor:
    """Scores of the ONNX file."""
    session = onnxruntime.InferenceSession(export(graph, plan), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return torch.from_numpy(np.concatenate([session.run(None, {name: part.numpy()})[0] for part in x.split(100)]))


def in_litert(graph: Graph, plan: Plan, x: torch.Tensor) -> torch.Tensor:
    """Scores of the TFLite file."""
    interpreter = Interpreter(model_content=export_tflite(graph, plan, io="float32", layout="NCHW"))
    (given,), (made,) = interpreter.get_input_details(), interpreter.get_output_details()
    found = []
    interpreter.resize_tensor_input(given["index"], (1, *x.shape[1:]))
    interpreter.allocate_tensors()
    for one in x:
        interpreter.set_tensor(given["index"], one[None].numpy())
        interpreter.invoke()
        found.append(interpreter.get_tensor(made["index"]).copy())
    return torch.from_numpy(np.concatenate(found))


def control(
    graph: Graph,
    skeleton: Skeleton,
    data: Data,
    steps: int,
    batch: int,
    metric: Callable[..., float],
    options: argparse.Namespace,
) -> dict[str, float]:
    """Float training on labels for as many steps, then the same method: what the quantized gradient is worth."""
    calibration = data.train[0][:512]
    # The plan only carries the latent weights: with all quantization off this is the float model, its biases kept.
    ranges = observe(to_torch(graph), [(calibration,)], skeleton)
    simulation = Simulation(graph, nearest(graph, skeleton, ranges)).enable(weights=False, activations=False)
    parameters = [q.latent for q in simulation.weights.values()]
    rates = [0.002 * weight_unit(q) for q in simulation.weights.values()]
    groups = [{"params": [p], "lr": rate} for p, rate in zip(parameters, rates, strict=True)]
    optimizer = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=steps + 1, pct_start=0.1)
    samples = Shuffled(data.train, batch, seed=options.seed)
    for step in range(steps):
        x, y = samples.batch(step).inputs
        scores = simulation(x)
        loss = functional.cross_entropy(scores.flatten(0, -2), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    trained = with_weights(graph, {name: q.latent.detach().numpy() for name, q in simulation.weights.items()})
    scores = outputs(to_torch(trained), data.test[0])
    after = start(trained, skeleton, calibration, options.start)
    quantized = outputs(Simulation(trained, after), data.test[0])
    return {"float": metric(scores, data.test[1]), "metric": metric(quantized, data.test[1])}


def with_weights(graph: Graph, weights: dict[str, np.ndarray[Any, Any]]) -> Graph:
    """The graph with other weights."""
    model = graph.clone().model
    for name, array in weights.items():
        model.graph.initializers[name].const_value = ir.tensor(array.astype(np.float32), name=name)
    return Graph(model)


def printed() -> Callable[[Progress], None]:
    """Print each new point of the curve."""
    last = [-1]

    def report(progress: Progress) -> None:
        point = progress.point
        if point.step != last[0]:
            last[0] = point.step
            left = f"{progress.seconds_left:.0f} s left"
            print(f"  step {point.step}: deployed {point.deployed:.4f}, latent {point.latent:.4f}, {left}", flush=True)

    return report


def _in_runtime(file: dict[str, Any] | None, runtime: str, digits: int) -> str:
    if file is None:
        return ""
    if runtime not in file:
        return "not run"
    found = file[runtime]
    if "refused" in found:
        return "no kernels"
    exact = f", with integers {found['integers']:.1f}" if "integers" in found else ""
    return f"{found['metric']:.{digits}f}, agrees {found['agreement']:.2f} % of {file['samples']}{exact}"


def table(results: dict[str, Any]) -> str:
    """The results in Markdown."""
    lines = [
        "| row | metric | float | start | agreement | recovered | agreement | share of the loss recovered "
        "| steps | CPU s | control: float training with labels, then PTQ (its float) | in ONNX Runtime | in LiteRT |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row, r in sorted(results.items()):
        before, after = r["before"], r["after"]
        lost = r["float"] - before["metric"]
        share = f"{(after['metric'] - before['metric']) / lost:.0%}" if abs(lost) > 1e-9 else ""
        other = f"{r['control']['metric']:.2f} ({r['control']['float']:.2f})" if "control" in r else ""
        digits = 2 if r["metric"] == "top1" else 4 if r["metric"] == "cosine" else 3
        runs = [_in_runtime(r.get("deployed"), runtime, digits) for runtime in ("ONNX Runtime", "LiteRT")]
        lines.append(
            f"| {row} | {r['metric']} | {r['float']:.{digits}f} | {before['metric']:.{digits}f} ({r['start']}) "
            f"| {before['agreement']:.1f} | {after['metric']:.{digits}f}{'' if r['kept'] else ' (not kept)'} "
            f"| {after['agreement']:.1f} | {share} | {r['steps']} | {r['CPU s']:.0f} | {other} | {' | '.join(runs)} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
