"""What changes during a run besides the trainer: plain numbers and tensors, so that a checkpoint can hold them."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from edgeq.recovery.schedule import Pace
from edgeq.recovery.stopping import Point
from edgeq.recovery.watch import Sizes


@dataclass
class State:
    """Where a run is; all of it is in the checkpoint."""

    sizes: Sizes
    step: int = 0
    seconds: float = 0.0
    stopped: str = ""
    curve: list[Point] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    warned: bool = False
    best: list[torch.Tensor] = field(default_factory=list)
    best_soft: float = math.inf
    rate: float = 0.0
    losses: list[float] = field(default_factory=list)
    first_loss: float = 0.0
    pace: Pace | None = None
    #: Seconds of all steps, and of reading t* and I the last time.
    stepping: float = 0.0
    locating: float = 0.0

    def content(self, seconds: float, trainer: dict[str, Any]) -> dict[str, Any]:
        """What a checkpoint holds, the trainer's part included."""
        assert self.pace is not None
        return {
            "trainer": trainer,
            "step": self.step,
            "seconds": seconds,
            "stopped": self.stopped,
            "curve": [asdict(point) for point in self.curve],
            "warnings": self.warnings,
            "warned": self.warned,
            "best": self.best,
            "best_soft": self.best_soft,
            "rate": self.rate,
            "losses": self.losses,
            "first_loss": self.first_loss,
            "pace": asdict(self.pace),
            "sizes": asdict(self.sizes),
            "stepping": self.stepping,
            "locating": self.locating,
        }

    @classmethod
    def of(cls, content: dict[str, Any], device: torch.device) -> "State":
        """From :meth:`content`."""
        return cls(
            step=content["step"],
            seconds=content["seconds"],
            stopped=content["stopped"],
            curve=[Point(**point) for point in content["curve"]],
            warnings=list(content["warnings"]),
            warned=content["warned"],
            best=[value.to(device) for value in content["best"]],
            best_soft=content["best_soft"],
            rate=content["rate"],
            losses=list(content["losses"]),
            first_loss=content["first_loss"],
            pace=Pace(**content["pace"]),
            sizes=Sizes(**content["sizes"]),
            stepping=content["stepping"],
            locating=content["locating"],
        )


def cloned(value: Any) -> Any:
    """A deep copy of containers of tensors."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: cloned(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(cloned(item) for item in value)
    return value
