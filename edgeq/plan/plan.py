"""The plan: every unit integer or float with its reason, every scale and every code, decided once.

A *unit* is one op of the deployed model together with what runtimes fuse into it (bias, ReLU, clip). A *value* is a
tensor of the graph, by its ONNX name. The simulation, the ONNX file, the TFLite file and the audit all read the plan.

What the plan means, for a unit that reads value v:
- an integer unit reads v as codes on ``plan.activations[v]`` (or, for a constant operand, ``plan.constants[v]``);
- a float unit reads the real value: v itself if a float unit or the graph's input made it, else the dequantized codes.
A value that a float unit makes and an integer unit reads is quantized between them. The graph's inputs and outputs are
real numbers; how a file presents them (float32 or codes) is the exporter's option.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgeq.plan.bits import Bits
from edgeq.plan.quantization import Quantization, QuantizedConstant


@dataclass(frozen=True)
class Unit:
    """One op of the deployed model with what is fused into it.

    Attributes:
        name: the anchor node's name, unique in the graph.
        op: the anchor's ONNX op type.
        nodes: the ONNX nodes that it covers, anchor first, in order.
        inputs: the values read as tensors: activations, and constant operands of elementwise ops. Parameters such as
            a weight, a bias, axes or pads are not among them.
        outputs: the values it makes; the last node's outputs.
        weight: the weight's value name (the graph's layout), or None.
        bias: the bias's value name, or None; an integer unit with a weight has a bias in the plan even so.
        clamp: the fused activation as (low, high) in real numbers, ReLU is (0, inf); None if there is none.
        integer: whether it computes on codes.
        reason: why it is float, or how it came to be integer.
        module: path of the PyTorch module that it came from, or "" if unknown.
    """

    name: str
    op: str
    nodes: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weight: str | None = None
    bias: str | None = None
    clamp: tuple[float, float] | None = None
    integer: bool = False
    reason: str = ""
    module: str = ""


@dataclass(frozen=True)
class Skeleton:
    """What is integer and with how many bits, before any number is known.

    Attributes:
        units: all of the model, in topological order.
        bits: by unit name; FLOAT for a float unit. Weight-only units have ``activations=None`` and are float units
            whose weight is nevertheless in ``Plan.weights``.
        groups: value -> its group's representative; the values of a group must share one grid (concat, pool, reshape).
            Holds exactly the values that are quantized.
        fixed: representative -> a grid that the runtimes prescribe (softmax, sigmoid, tanh).
        clamps: representative -> (low, high) that bounds the range whatever was observed (after ReLU, clip).
        per_channel: whether weights have a scale per output channel.
        symmetric: whether activations have zero point 0.
        power_of_two: whether every scale is a power of two, so that a device can rescale by shifts.
        centred: representatives whose zero point is 0 in any case: the right operands of products of two activations,
            which LiteRT's delegate takes only so.
    """

    units: tuple[Unit, ...]
    bits: Mapping[str, Bits]
    groups: Mapping[str, str]
    fixed: Mapping[str, Quantization] = field(default_factory=dict)
    clamps: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    per_channel: bool = True
    symmetric: bool = False
    power_of_two: bool = False
    centred: frozenset[str] = frozenset()

    def activation_bits(self, value: str) -> int:
        """Bits of a quantized value: the widest that a unit making or reading its group asks for.

        Fewer than 8 are for what layers multiply with their weights; a value that no layer reads (an operand of a sum
        or of attention's products, the model's output) has 8: it lies in 8 bits in every file, and a coarser grid
        would cost a clip and save nothing.
        """
        group = self.groups[value]
        touching = [
            unit
            for unit in self.units
            if unit.integer and any(self.groups.get(v) == group for v in unit.inputs + unit.outputs)
        ]
        asked = max(bits for unit in touching if (bits := self.bits[unit.name].activations) is not None)
        multiplied = any(
            unit.weight is not None and any(self.groups.get(v) == group for v in unit.inputs) for unit in touching
        )
        return asked if multiplied else max(asked, 8)


@dataclass(frozen=True, eq=False)
class Plan:
    """The whole decision, frozen.

    Attributes:
        skeleton: what is integer, with how many bits, and which values share a grid.
        activations: value -> its grid, for every quantized value.
        weights: weight's value name -> codes, in the layout of the graph.
        biases: unit name -> int32 codes (channels,), scale = input scale x weight scale.
        constants: constant operand of an integer elementwise unit -> codes.
        method: how the codes were chosen, for the report.
    """

    skeleton: Skeleton
    activations: Mapping[str, Quantization]
    weights: Mapping[str, QuantizedConstant]
    biases: Mapping[str, QuantizedConstant]
    constants: Mapping[str, QuantizedConstant] = field(default_factory=dict)
    method: str = ""

    @property
    def units(self) -> tuple[Unit, ...]:
        """The units in topological order."""
        return self.skeleton.units
