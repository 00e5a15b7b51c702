"""Checkpoints: written whole or not at all, read without running code, refused where they belong to another run."""

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgeq.errors import OutputError, UsageError
from edgeq.plan.plan import Plan
from edgeq.release.atomic import write_file

_FORMAT = 3


def fingerprint(plan: Plan, *options: object) -> str:
    """Names the run that a checkpoint belongs to: its start and everything that shapes it."""
    digest = hashlib.sha256()
    for value, constant in sorted(plan.weights.items()):
        digest.update(value.encode())
        digest.update(np.ascontiguousarray(constant.codes.astype(np.int32)).tobytes())
        digest.update(constant.quantization.scale.tobytes())
    for value, grid in sorted(plan.activations.items()):
        digest.update(value.encode() + grid.scale.tobytes() + grid.zero_point.tobytes() + bytes([grid.bits]))
    for value, constant in sorted(plan.biases.items()):
        digest.update(value.encode() + constant.codes.astype(np.int64).tobytes())
    digest.update(repr(options).encode())
    return digest.hexdigest()


def save(path: Path, run: str, state: dict[str, Any]) -> None:
    """Write a checkpoint; an earlier one stays until the new one is whole on the disk.

    Raises:
        OutputError: it cannot be written.
    """
    buffer = io.BytesIO()
    torch.save({"format": _FORMAT, "run": run, "state": state}, buffer)
    write_file(path, buffer.getvalue())


def load(path: Path, run: str) -> dict[str, Any] | None:
    """The state of that run, or None if there is no checkpoint.

    Raises:
        UsageError: the file is damaged, or belongs to another run.
    """
    if not path.exists():
        return None
    try:
        # weights_only: tensors and plain containers, no code.
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise OutputError(f"checkpoint {path}: cannot be read: {error.strerror or error}") from error
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, ValueError) as error:
        raise UsageError(f"checkpoint {path}: damaged; delete it to start the recovery anew") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise UsageError(f"checkpoint {path}: not a recovery checkpoint of this version; delete it to start anew")
    if content["run"] != run:
        raise UsageError(f"checkpoint {path}: of another model, plan, seed or recipe; delete it or name another file")
    state: dict[str, Any] = content["state"]
    return state
