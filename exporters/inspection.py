"""What a file contains, whoever wrote it: the same description for every format."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Grid:
    """A tensor's quantization.

    Attributes:
        tensor: its name.
        dtype: element type of the codes.
        scales: how many there are (1 is per-tensor).
        smallest_scale: of them.
        largest_scale: of them.
        zero_point: of a per-tensor grid; None for several.
        axis: the channel axis, or None.
        constant: whether it is a weight or bias.
    """

    tensor: str
    dtype: str
    scales: int
    smallest_scale: float
    largest_scale: float
    zero_point: int | None
    axis: int | None
    constant: bool


@dataclass(frozen=True)
class Compute:
    """One op that multiplies and accumulates.

    Attributes:
        name: of the node, or of its output.
        op: its type.
        macs: multiply-accumulates of one sample; 0 if its shapes are unknown.
        integer: whether an integer kernel runs it.
        reason: why not, or "".
    """

    name: str
    op: str
    macs: int
    integer: bool
    reason: str = ""


@dataclass(frozen=True)
class Inspection:
    """One file.

    Attributes:
        format: onnx or tflite.
        version: opset or schema version.
        size_bytes: of the file.
        inputs: name -> "float32 (1, 3, 224, 224)".
        outputs: likewise.
        ops: op type -> how many.
        parameters: element type -> how many constant numbers.
        compute: every op with multiply-accumulates.
        grids: every quantized tensor.
    """

    format: str
    version: int
    size_bytes: int
    inputs: dict[str, str]
    outputs: dict[str, str]
    ops: dict[str, int]
    parameters: dict[str, int]
    compute: tuple[Compute, ...]
    grids: tuple[Grid, ...]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sample."""
        return sum(each.macs for each in self.compute)

    @property
    def integer_share(self) -> float:
        """Share of the multiply-accumulates in integer kernels; 0 if there are none."""
        return sum(each.macs for each in self.compute if each.integer) / self.macs if self.macs else 0.0
