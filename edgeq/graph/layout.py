"""Which inputs are images or feature maps: what a kernel that tells channels from places reads first."""

from edgeq.graph.graph import Graph

#: Ops with a channel axis: ONNX has it second, most runtimes' kernels last.
WITH_CHANNELS = frozenset(
    {"Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Resize", "Upsample",
     "DepthToSpace", "SpaceToDepth"}
)  # fmt: skip
#: Ops that pass a layout on.
TRANSPARENT = frozenset({"Pad", "Slice", "Relu", "Clip", "Identity", "Add", "Sub", "Mul", "Div", "Concat", "Split"})


def has_channels(graph: Graph, value_name: str) -> bool:
    """Whether an op with channels reads a value, directly or behind ops that pass its layout on."""
    seen, left = {value_name}, [value_name]
    while left:
        for node in graph.consumers(left.pop()):
            if node.domain:
                continue
            if node.op_type in WITH_CHANNELS:
                return True
            if node.op_type in TRANSPARENT:
                new = [value.name for value in node.outputs if value.name and value.name not in seen]
                seen.update(new)
                left += new
    return False


def channels_last(rank: int) -> tuple[int, ...]:
    """(0, 2, 3, 1) for rank 4, (0, 2, 1) for rank 3; the identity below."""
    return tuple(range(rank)) if rank < 3 else (0, *range(2, rank), 1)


__all__ = ["channels_last", "has_channels"]
