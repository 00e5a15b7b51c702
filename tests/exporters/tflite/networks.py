"""Small networks whose layout, formats and grids are awkward in the ways that real ones are."""

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgeq.graph.graph import Graph

from .single_op import graph_from


class Net:
    """Collects nodes; every method gives the name of its output."""

    def __init__(self, *shapes: tuple[int, ...]) -> None:
        self.shapes = shapes
        self.random = np.random.default_rng(3)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, array: np.ndarray) -> str:
        name = f"k{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def weight(self, *shape: int) -> str:
        scale = float(np.prod(shape[1:])) ** -0.5
        return self.constant(self.random.normal(0, scale, size=shape).astype(np.float32))

    def add(self, op: str, *inputs: str, **attributes: object) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=f"n{len(self.nodes)}", **attributes))
        return name

    def conv(self, x: str, channels: int, out: int, kernel: int = 3, **attributes: object) -> str:
        attributes.setdefault("pads", [kernel // 2] * 4)
        group = int(str(attributes.get("group", 1)))
        weight = self.weight(out, channels // group, kernel, kernel)
        return self.add("Conv", x, weight, self.weight(out), **attributes)

    def graph(self, *outputs: str) -> Graph:
        return graph_from(self.nodes, self.shapes, outputs, self.constants)


def residual() -> Graph:
    """Convolutions, a residual whose shortcut is sliced and padded, pooling, flatten, dense."""
    net = Net((1, 3, 8, 8))
    x = net.add("Relu", net.conv("x0", 3, 4))
    h = net.add("Relu", net.conv(x, 4, 8, strides=[2, 2]))
    h = net.conv(h, 8, 8)
    starts, ends, axes, steps = (net.constant(np.array(a, np.int64)) for a in ([0, 0], [8, 8], [2, 3], [2, 2]))
    s = net.add("Slice", x, starts, ends, axes, steps)
    s = net.add("Pad", s, net.constant(np.array([0, 2, 0, 0, 0, 2, 0, 0], np.int64)))
    h = net.add("Relu", net.add("Add", h, s))
    h = net.add("MaxPool", h, kernel_shape=[2, 2], strides=[2, 2])
    h = net.add("Flatten", h)
    return net.graph(net.add("Gemm", h, net.weight(5, 32), net.weight(5), transB=1))


def squeeze_excite() -> Graph:
    """A gate of one number a channel multiplies the feature map."""
    net = Net((1, 3, 8, 8))
    x = net.add("HardSwish", net.conv("x0", 3, 8))
    g = net.add("GlobalAveragePool", x)
    g = net.add("Relu", net.conv(g, 8, 4, 1))
    g = net.add("Sigmoid", net.conv(g, 4, 8, 1))
    return net.graph(net.conv(net.add("Mul", x, g), 8, 4, 1))


def attention() -> Graph:
    """A vision transformer's patch embedding and one head split of attention."""
    net = Net((1, 3, 16, 16))
    x = net.conv("x0", 3, 12, 4, strides=[4, 4], pads=[0, 0, 0, 0])
    shape = net.constant(np.array([1, 12, 16], np.int64))
    x = net.add("Transpose", net.add("Reshape", x, shape), perm=[0, 2, 1])
    heads = net.constant(np.array([1, 16, 3, 4], np.int64))
    q, k, v = (net.add("Reshape", net.add("MatMul", x, net.weight(12, 12)), heads) for _ in range(3))
    q, v = (net.add("Transpose", part, perm=[0, 2, 1, 3]) for part in (q, v))
    k = net.add("Transpose", k, perm=[0, 2, 3, 1])
    scores = net.add("Softmax", net.add("MatMul", q, k), axis=-1)
    joined = net.add("Transpose", net.add("MatMul", scores, v), perm=[0, 2, 1, 3])
    joined = net.add("Reshape", joined, net.constant(np.array([1, 16, 12], np.int64)))
    return net.graph(net.add("Add", net.add("MatMul", joined, net.weight(12, 12)), x))


def detector() -> Graph:
    """Two heads, each a map turned channels last, reshaped and joined over two scales."""
    net = Net((1, 3, 16, 16))
    a = net.add("Relu", net.conv("x0", 3, 8, strides=[2, 2]))
    b = net.add("Relu", net.conv(a, 8, 8, strides=[2, 2]))
    rows = []
    for feature in (a, b):
        head = net.add("Transpose", net.conv(feature, 8, 6), perm=[0, 2, 3, 1])
        rows.append(net.add("Reshape", head, net.constant(np.array([1, -1, 2], np.int64))))
    scores = net.add("Softmax", net.add("Concat", *rows, axis=1), axis=2)
    return net.graph(scores, b)


def sequence() -> Graph:
    """One-dimensional convolutions with a residual, then a dense layer on every step."""
    net = Net((1, 4, 20))
    x = net.add("Conv", "x0", net.weight(8, 4, 3), net.weight(8), pads=[1, 1])
    x = net.add("Relu", x)
    h = net.add("Conv", x, net.weight(8, 1, 5), net.weight(8), pads=[2, 2], group=8)
    h = net.add("Add", h, x)
    h = net.add("Transpose", h, perm=[0, 2, 1])
    return net.graph(net.add("MatMul", h, net.weight(8, 3)))


def upsampler() -> Graph:
    """An encoder and a decoder with a skip connection and a transposed convolution."""
    net = Net((1, 3, 8, 8))
    a = net.add("Relu", net.conv("x0", 3, 4))
    b = net.add("Relu", net.conv(a, 4, 8, strides=[2, 2]))
    up = net.add("ConvTranspose", b, net.weight(8, 4, 2, 2), net.weight(4), strides=[2, 2])
    joined = net.add("Concat", up, a, axis=1)
    return net.graph(net.conv(joined, 8, 2, 1))


def shared_query() -> Graph:
    """A matrix times its own transpose, and its transpose times itself: operands that are read turned."""
    net = Net((1, 6, 8))
    turned = net.add("Transpose", "x0", perm=[0, 2, 1])
    return net.graph(net.add("MatMul", "x0", turned), net.add("MatMul", turned, "x0"))


NETWORKS = {
    "shared query": shared_query,
    "residual": residual,
    "squeeze-excite": squeeze_excite,
    "attention": attention,
    "detector": detector,
    "sequence": sequence,
    "upsampler": upsampler,
}
