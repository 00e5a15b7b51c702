"""Train on the logits: a Softmax at the end of the graph is left off, in teacher and student alike.

Its grid is prescribed, so nothing before it can be learnt from its rounding; and where its 8 bits give a
probability of 0 the divergence would be infinite.
"""

import torch
from torch import fx

from edgeq.graph.ops import OPS

Outputs = tuple[torch.Tensor, ...]

_SOFTMAX = {OPS["", op].function for op in ("Softmax", "LogSoftmax")}


def leave_softmax(module: fx.GraphModule) -> None:
    """Make a module that ends in one Softmax return what goes into it."""
    output = next(node for node in module.graph.nodes if node.op == "output")
    source = output.args[0]
    while isinstance(source, fx.Node) and source.op == "call_module" and source.args:
        source = source.args[0]  # the softmax's own grid
    if isinstance(source, fx.Node) and source.target in _SOFTMAX:
        output.args = (source.args[0],)
        module.graph.eliminate_dead_code()
        module.recompile()


def as_outputs(result: torch.Tensor | tuple[torch.Tensor, ...]) -> Outputs:
    """What a module returned, always as a tuple."""
    return result if isinstance(result, tuple) else (result,)
