"""Several batches through a module in step: each node runs on all of them before the next node does.

Statistics of a layer over all samples are then known before the next layer reads its output, without joining the
batches into one: whole inputs of a recurrent model cannot be joined.
"""

from collections.abc import Callable, Sequence

import torch
from torch import fx

from edgeq.basin.landscape import Inputs

#: (node, its results for each batch) -> what later nodes read in their place.
Hook = Callable[[fx.Node, list[torch.Tensor]], list[torch.Tensor]]


def in_step(module: fx.GraphModule, batches: Sequence[Inputs], hooks: dict[fx.Node, Hook]) -> None:
    """Run the module over the batches.

    Args:
        module: whose nodes run.
        batches: its inputs, batch by batch; all values that are still needed are held for all of them.
        hooks: called at these nodes, whose results are tensors.
    """
    runs = [fx.Interpreter(module) for _ in batches]
    for run, inputs in zip(runs, batches, strict=True):
        run.args_iter = iter(inputs)
    for node in module.graph.nodes:
        if node.op == "output":
            return
        results = [run.run_node(node) for run in runs]
        if node in hooks:
            results = hooks[node](node, results)
        for run, result in zip(runs, results, strict=True):
            run.env[node] = result
            for used in run.user_to_last_uses.get(node, ()):
                del run.env[used]


def taken(batches: Sequence[Inputs], most: int) -> list[Inputs]:
    """The first batches that hold at most so many samples together; at least one."""
    kept, count = [batches[0]], samples(batches[0])
    for batch in batches[1:]:
        count += samples(batch)
        if count > most:
            break
        kept.append(batch)
    return kept


def samples(inputs: Inputs) -> int:
    """How many samples a batch holds; inputs that belong to all samples have rank 0."""
    return max((len(tensor) for tensor in inputs if tensor.ndim), default=1)
