"""A plan as bytes and back: arrays and numbers only (npz without pickle), the same bytes for the same plan."""

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgeq.errors import PlanError
from edgeq.plan.plan import Plan, Skeleton
from edgeq.plan.quantization import Quantization, QuantizedConstant

_PARTS = ("weights", "biases", "constants")


def dump(plan: Plan) -> bytes:
    """The numbers of a plan; its skeleton is recomputed from the graph and the request."""
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    index: dict[str, Any] = {"method": plan.method, "activations": {}}
    for value, grid in plan.activations.items():
        index["activations"][value] = _put(grid, arrays)
    for part in _PARTS:
        constants: Mapping[str, QuantizedConstant] = getattr(plan, part)
        index[part] = {}
        for name, constant in constants.items():
            entry = _put(constant.quantization, arrays)
            entry["codes"] = f"a{len(arrays)}"
            arrays[entry["codes"]] = _smallest(constant.codes)
            index[part][name] = entry
    arrays["index"] = np.frombuffer(json.dumps(index).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def digest(plan: Plan) -> str:
    """SHA-256 of a plan's numbers."""
    return hashlib.sha256(dump(plan)).hexdigest()


def restore(data: bytes, skeleton: Skeleton) -> Plan:
    """The plan of those bytes.

    Raises:
        PlanError: the bytes are damaged.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            index = json.loads(arrays["index"].tobytes())
            activations = {value: _get(entry, arrays) for value, entry in index["activations"].items()}
            parts = {
                part: {
                    name: QuantizedConstant(arrays[entry["codes"]].astype(np.int64), _get(entry, arrays))
                    for name, entry in index[part].items()
                }
                for part in _PARTS
            }
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise PlanError(f"the stored plan is damaged ({error}); delete the run folder and start again") from error
    return Plan(skeleton=skeleton, activations=activations, method=index["method"], **parts)


def _put(grid: Quantization, arrays: dict[str, np.ndarray[Any, Any]]) -> dict[str, Any]:
    scale = f"a{len(arrays)}"
    arrays[scale] = np.asarray(grid.scale)
    zero_point = f"a{len(arrays)}"
    arrays[zero_point] = np.asarray(grid.zero_point)
    parity = None
    if grid.parity is not None:
        parity = f"a{len(arrays)}"
        arrays[parity] = grid.parity
    return {
        "scale": scale,
        "zero_point": zero_point,
        "bits": grid.bits,
        "axis": grid.axis,
        "narrow": grid.narrow,
        "block": grid.block,
        "parity": parity,
    }


def _get(entry: Mapping[str, Any], arrays: Mapping[str, np.ndarray[Any, Any]]) -> Quantization:
    return Quantization(
        arrays[entry["scale"]],
        arrays[entry["zero_point"]],
        entry["bits"],
        entry["axis"],
        entry["narrow"],
        entry["block"],
        None if entry["parity"] is None else arrays[entry["parity"]],
    )


def _smallest(codes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return codes.astype(np.int8) if codes.size == 0 or np.abs(codes).max() < 128 else codes.astype(np.int32)
