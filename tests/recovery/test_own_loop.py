"""A user's own training loop: the simulation trains like any module, and the exporters take its plan."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch.nn import functional

from edgeq.exporters.onnx import export
from edgeq.plan.validate import validate
from edgeq.simulate import Simulation

from .models import digits

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_training_loop.py"


def test_any_optimizer_trains_it_and_the_exported_file_computes_what_was_trained() -> None:
    case = digits("w3a8")
    simulation = Simulation(case.graph, case.plan)
    optimizer = torch.optim.AdamW([q.latent for q in simulation.weights.values()], lr=1e-3)
    labels = torch.from_numpy(np.load(Path(__file__).parents[2] / "edgeq" / "demo" / "train.npz")["y"])
    losses = []
    for step in range(12):
        part = slice(64 * (step % 4), 64 * (step % 4) + 64)
        loss = functional.cross_entropy(simulation(case.train[part]), labels[part])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-4:]) < sum(losses[:4])
    plan = simulation.plan(method="own")
    validate(case.graph, plan)
    session = onnxruntime.InferenceSession(export(case.graph, plan), providers=["CPUExecutionProvider"])
    x = torch.cat([part for (part,) in case.held_out])
    deployed = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0].argmax(1)
    with torch.no_grad():
        simulated = simulation(x).argmax(1).numpy()
    assert (deployed == simulated).mean() >= 0.995


@pytest.mark.slow
def test_the_example_runs_as_its_text_says(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLE), "--steps", "5", "-o", str(tmp_path / "digits.onnx")]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout
    agreement = re.search(r"agree with the simulation: ([\d.]+)%", printed)
    assert agreement is not None
    assert float(agreement[1]) >= 99.5
    assert (tmp_path / "digits.onnx").stat().st_size > 0
