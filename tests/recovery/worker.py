"""A recovery to be killed: ``python worker.py CHECKPOINT RESULT STEPS`` writes what came of it, whole or not at all."""

import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from models import digits

from edgeq.recovery import Budget, Options, Recipe, RecoveryResult, Shuffled, recover


def run(checkpoint: Path | None, steps: int) -> RecoveryResult:
    """The same recovery whenever it is asked for; it writes a checkpoint after each step."""
    torch.set_num_threads(1)
    case = digits("w2a8")
    return recover(
        case.graph,
        case.plan,
        Shuffled((case.train,), 16, seed=5),
        case.held_out[:2],
        Budget(steps=steps),
        recipe=Recipe(freeze_above=0.05),
        options=Options(checkpoint_seconds=0.0),
        checkpoint_file=checkpoint,
    )


def numbers(result: RecoveryResult) -> dict[str, np.ndarray]:
    """Everything in a result that must not depend on interruptions."""
    plan = result.plan
    found = {f"codes {name}": constant.codes for name, constant in plan.weights.items()}
    found |= {f"scale {name}": constant.quantization.scale for name, constant in plan.weights.items()}
    found |= {f"bias {name}": constant.codes for name, constant in plan.biases.items()}
    found |= {f"grid {name}": np.append(grid.scale, grid.zero_point) for name, grid in plan.activations.items()}
    found["curve"] = np.array([(p.step, p.deployed, p.latent, p.flipped) for p in result.curve])
    found["after"] = result.after.divergence
    return found


if __name__ == "__main__":
    outcome = numbers(run(Path(sys.argv[1]), int(sys.argv[3])))
    with Path(sys.argv[2] + ".part").open("wb") as file:
        np.savez(file, **outcome)  # type: ignore[arg-type]
    Path(sys.argv[2] + ".part").rename(sys.argv[2])
