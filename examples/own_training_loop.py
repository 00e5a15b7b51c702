"""Your own training loop: the simulation is an ``nn.Module``; what it has learnt goes back to the exporters.

    python examples/own_training_loop.py -o digits_w4.onnx

Here: cross-entropy on labels, SGD with momentum, noise as augmentation. Lightning, accelerate or any other loop can
take its place: nothing in it is edgeq's but the module, and ``simulation.plan()`` at the end.
"""

import argparse
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch.nn import functional

from edgeq.calibration.nearest import nearest
from edgeq.calibration.ranges import observe
from edgeq.demo import EVALUATION, MODEL, TRAIN
from edgeq.exporters.onnx import export
from edgeq.graph.execute import to_torch
from edgeq.graph.graph import Graph
from edgeq.graph.sources import load_model
from edgeq.plan.bits import Bits
from edgeq.plan.plan import Plan
from edgeq.plan.rules import Request, decide
from edgeq.plan.validate import validate
from edgeq.simulate import Simulation


def quantize(graph: Graph, samples: torch.Tensor) -> Plan:
    """Any plan to start from: here 4-bit weights, 8-bit activations, round to nearest."""
    skeleton = decide(graph, Request(bits=Bits.parse("w4a8")))
    return nearest(graph, skeleton, observe(to_torch(graph), [(samples,)], skeleton))


def train(simulation: Simulation, x: torch.Tensor, y: torch.Tensor, steps: int) -> None:
    """An ordinary loop."""
    weights = [quantizer.latent for quantizer in simulation.weights.values()]
    step = float(np.median([float(q.scale.detach().median()) for q in simulation.weights.values()]))
    optimizer = torch.optim.SGD(weights, lr=step / 20, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        chosen = torch.randint(len(x), (32,), generator=generator)
        noisy = x[chosen] + 0.02 * torch.randn(x[chosen].shape, generator=generator)
        logits = simulation(noisy)
        loss = functional.cross_entropy(logits, y[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def main() -> None:
    """Quantize, train, export, and run what was exported."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("digits_w4.onnx"))
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()
    graph = load_model(MODEL)
    data, test = np.load(TRAIN), np.load(EVALUATION)
    x, y = torch.from_numpy(data["x"]), torch.from_numpy(data["y"])
    simulation = Simulation(graph, quantize(graph, x[:200]))
    test_x = torch.from_numpy(test["x"])
    with torch.no_grad():
        before = simulation(test_x).argmax(1).numpy()
    train(simulation, x, y, options.steps)
    with torch.no_grad():
        after = simulation(test_x).argmax(1).numpy()
    print(f"simulated: {(before == test['y']).mean():.2%} before training, {(after == test['y']).mean():.2%} after")
    plan = simulation.plan(method="my own loop")
    validate(graph, plan)
    options.output.write_bytes(export(graph, plan))
    session = onnxruntime.InferenceSession(options.output, providers=["CPUExecutionProvider"])
    deployed = session.run(None, {session.get_inputs()[0].name: test["x"]})[0].argmax(1)
    print(f"exported, in ONNX Runtime: {(deployed == test['y']).mean():.2%}")
    print(f"decisions that agree with the simulation: {(deployed == after).mean():.2%}")


if __name__ == "__main__":
    main()
