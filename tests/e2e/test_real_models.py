"""The main job on real models: W8A8 files that keep the float model's accuracy, all of it in integer kernels."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from .conftest import Run

pytestmark = [pytest.mark.assets, pytest.mark.slow]

Array = npt.NDArray[Any]


def loaded(assets: Path) -> Any:
    spec = importlib.util.spec_from_file_location("asset_loader", assets / "load.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def converted(
    edgeq: Run, folder: Path, model: Path, sets: dict[str, tuple[Array, Array]], *more: object
) -> dict[str, Any]:
    """report.json of one run."""
    for name, (x, y) in sets.items():
        np.savez(folder / f"{name}.npz", x=x, y=y)
    result = edgeq(
        "convert", model, "--data", folder / "data.npz", "--eval", folder / "evaluation.npz", "-o", folder / "release",
        "--latency-runs", 0, "--quiet", *more,
    )  # fmt: skip
    assert result.code in (0, 3), result.out + result.err
    report: dict[str, Any] = json.loads((folder / "release" / "report.json").read_text())
    return report


def keeps_its_promises(report: dict[str, Any]) -> None:
    assert set(report["devices"]) == {"cpu-onnxruntime", "cpu-litert"}
    for name, device in report["devices"].items():
        assert device["metric"]["deployed"] >= device["metric"]["float_on_target"] - 0.005, name
        assert device["parity"]["decisions_agree"] >= 0.995, name
        assert device["integer_mac_share"] == 1.0, name


def test_resnet20(edgeq: Run, tmp_path: Path, assets: Path) -> None:
    load = loaded(assets)
    train, test = load.cifar10("train_20k"), load.cifar10("test")
    sets = {"data": tuple(a[:512] for a in train), "evaluation": tuple(a[:2000] for a in test)}
    report = converted(edgeq, tmp_path, assets / "cifar_resnet_weights" / "resnet20.onnx", sets)
    keeps_its_promises(report)
    for device in report["devices"].values():
        assert device["parity"]["unequal"] == 0


def test_keyword_spotter(edgeq: Run, tmp_path: Path, assets: Path) -> None:
    x, y = loaded(assets).keywords()
    distinct = np.unique(x, axis=0, return_index=True)[1]
    order = np.random.default_rng(0).permutation(distinct)
    sets = {"data": (x[order[:300]], y[order[:300]]), "evaluation": (x[order[300:]], y[order[300:]])}
    (model,) = (assets / "kws_dscnn").glob("*.onnx")
    keeps_its_promises(converted(edgeq, tmp_path, model, sets))
