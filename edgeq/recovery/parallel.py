"""Several processes, by torch.distributed where the caller has initialized it; nothing at all where not.

Every process holds the whole model and takes its share of each batch; gradients are averaged, so all stay equal. What
depends on a clock or a file is decided by the first process and told to the others.
"""

from collections.abc import Sequence

import torch
from torch import distributed

from edgeq.recovery.samples import Batch


def active() -> bool:
    """Whether several processes work together."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def first() -> bool:
    """Whether this process is the one that writes files and reports progress."""
    return not active() or distributed.get_rank() == 0


def share(batch: Batch) -> Batch:
    """This process's samples of a batch; as it is where the batch has fewer samples than there are processes."""
    if not active() or len(batch.inputs[0]) < distributed.get_world_size():
        return batch
    mine = slice(distributed.get_rank(), None, distributed.get_world_size())
    return Batch(tuple(x[mine] for x in batch.inputs), None if batch.indices is None else batch.indices[mine])


def average_gradients(parameters: Sequence[torch.Tensor], loss: torch.Tensor, weight: float) -> torch.Tensor:
    """Average gradients and loss over the processes, weighted by their samples; the averaged loss.

    Args:
        parameters: whose gradients; missing ones count as zero.
        loss: of this process's samples.
        weight: how many samples that were.
    """
    if not active():
        return loss.detach()
    parts = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    # float64: sums of many processes, and the loss is float64 anyway.
    flat = torch.cat([*(part.reshape(-1).double() for part in parts), loss.detach().reshape(1).double()]) * weight
    flat = torch.cat([flat, flat.new_full((1,), weight)])
    distributed.all_reduce(flat)
    flat = flat / flat[-1]
    position = 0
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.grad = flat[position : position + part.numel()].reshape(part.shape).to(part.dtype)
        position += part.numel()
    return flat[position]


def agreed(number: float) -> float:
    """The first process's number, in every process."""
    if not active():
        return number
    # float64, so that a time or a count arrives as it was sent.
    told = torch.tensor([number], dtype=torch.float64)
    if distributed.get_backend() == "nccl":
        told = told.cuda()
    distributed.broadcast(told, 0)
    return float(told)
