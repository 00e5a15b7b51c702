"""What a file really holds, against what the plan asked for: the same answer for every format."""

from dataclasses import dataclass


@dataclass(frozen=True)
class AuditRow:
    """One unit of the plan as the file has it.

    Attributes:
        unit: the unit's name in the plan.
        op: what the runtime executes (QLinearConv, CONV_2D ...).
        integer: whether it runs in an integer kernel.
        reason: why not, or "".
        dtype: element type of its weight, or of its output where it has none.
        axis: channel axis of the weight's scales in the file, None for per-tensor or no weight.
        macs: multiply-accumulates of one sample.
        expected_float: the runtime is known to have no integer kernel for it: float is no broken promise.
    """

    unit: str
    op: str
    integer: bool
    reason: str
    dtype: str
    axis: int | None
    macs: int
    expected_float: bool = False


@dataclass(frozen=True)
class Audit:
    """One file, read back.

    Attributes:
        format: onnx or tflite.
        rows: one for each unit of the plan.
        problems: what differs from the plan; empty if all was delivered.
        inputs: name -> element type.
        outputs: name -> element type.
        version: opset or schema version.
        size_bytes: of the file.
    """

    format: str
    rows: tuple[AuditRow, ...]
    problems: tuple[str, ...]
    inputs: dict[str, str]
    outputs: dict[str, str]
    version: int
    size_bytes: int

    @property
    def total_macs(self) -> int:
        """Multiply-accumulates of one sample."""
        return sum(row.macs for row in self.rows)

    @property
    def integer_mac_share(self) -> float:
        """Share of the multiply-accumulates that integer kernels do; 0 if there are none."""
        total = self.total_macs
        return sum(row.macs for row in self.rows if row.integer) / total if total else 0.0
