"""Recovery over several processes with torch.distributed: each holds the model and takes its share of every batch.

    python examples/recover_distributed.py --processes 2 --steps 60 -o out

On several machines start it with torchrun instead, which sets RANK, WORLD_SIZE and MASTER_ADDR; on GPUs name the
backend nccl. ``edgeq.recovery.recover`` itself needs no argument: it sees that torch.distributed is initialized.
"""

import argparse
import os
from pathlib import Path

import numpy as np
import torch
from torch import distributed, multiprocessing

from edgeq.calibration.nearest import nearest
from edgeq.calibration.ranges import observe
from edgeq.demo import EVALUATION, MODEL, TRAIN
from edgeq.graph.execute import to_torch
from edgeq.graph.sources import load_model
from edgeq.plan.bits import Bits
from edgeq.plan.rules import Request, decide
from edgeq.recovery import Budget, Shuffled, recover


def work(rank: int, processes: int, steps: int, store: str, output: Path) -> None:
    """One process."""
    torch.set_num_threads(1)
    if processes > 1:
        distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=processes)
    graph = load_model(MODEL)
    train = torch.from_numpy(np.load(TRAIN)["x"])
    held_out = [(part,) for part in torch.from_numpy(np.load(EVALUATION)["x"][:200]).split(50)]
    skeleton = decide(graph, Request(bits=Bits.parse("w3a8")))
    plan = nearest(graph, skeleton, observe(to_torch(graph), [(train[:200],)], skeleton))
    # Every process asks for the same batches, in the same order; recovery gives each its part.
    result = recover(graph, plan, Shuffled((train,), 32, seed=0), held_out, Budget(steps=steps))
    codes = {f"codes {name}": constant.codes for name, constant in result.plan.weights.items()}
    np.savez(output / f"rank{rank}.npz", curve=np.array([p.deployed for p in result.curve]), **codes)  # type: ignore[arg-type]
    if rank == 0:
        print(f"{processes} process(es), {result.steps} steps: {result.reason}")
    if processes > 1:
        distributed.destroy_process_group()


def main() -> None:
    """Start the processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("-o", "--output", type=Path, default=Path("recovered"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    store = str((options.output / f"rendezvous-{os.getpid()}").resolve())
    arguments = (options.processes, options.steps, store, options.output)
    if options.processes == 1:
        work(0, *arguments)
    else:
        multiprocessing.spawn(work, arguments, options.processes)
        Path(store).unlink(missing_ok=True)


if __name__ == "__main__":
    main()
