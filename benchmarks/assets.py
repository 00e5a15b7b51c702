"""The real models and data of the benchmarks: EDGEQ_ASSETS, or ../shared/assets beside the repository."""

import importlib.util
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

FOLDER = Path(os.environ.get("EDGEQ_ASSETS", Path(__file__).resolve().parents[2] / "shared" / "assets"))


def loader() -> ModuleType:
    """The assets' own ``load.py``."""
    path = FOLDER / "load.py"
    if not path.is_file():
        sys.exit(f"no assets in {FOLDER}: set EDGEQ_ASSETS to the folder that holds load.py")
    spec = importlib.util.spec_from_file_location("edgeq_assets_load", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


Arrays = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Case:
    """A model with samples to calibrate (without labels) and to evaluate, kept apart."""

    name: str
    model: Path
    data: Callable[[], tuple[Arrays, Arrays]]


def _cifar() -> tuple[Arrays, Arrays]:
    load = loader()
    return load.cifar10("train_20k"), load.cifar10("test")


def _split(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], calibration: int) -> tuple[Arrays, Arrays]:
    # The keyword set repeats some recordings: each content is drawn once, so that no two sets share one.
    _, distinct = np.unique(x.reshape(len(x), -1), axis=0, return_index=True)
    order = np.random.default_rng(0).permutation(np.sort(distinct))
    first, rest = np.sort(order[:calibration]), np.sort(order[calibration:])
    return (x[first], y[first]), (x[rest], y[rest])


def _imagenet() -> tuple[Arrays, Arrays]:
    return _split(*loader().imagenet_sample(), 200)


def _keywords() -> tuple[Arrays, Arrays]:
    return _split(*loader().keywords(), 300)


CASES: tuple[Case, ...] = (
    Case("resnet20", FOLDER / "cifar_resnet_weights" / "resnet20.onnx", _cifar),
    Case("resnet56", FOLDER / "cifar_resnet_weights" / "resnet56.onnx", _cifar),
    Case("efficientnet_lite0", FOLDER / "efficientnet_lite0" / "efficientnet_lite0.onnx", _imagenet),
    Case("kws_dscnn", FOLDER / "kws_dscnn" / "kws_dscnn.onnx", _keywords),
)


def write_samples(case: Case, folder: Path) -> tuple[Path, Path]:
    """The case's samples as ``calibration.npz`` and ``evaluation.npz`` in a folder."""
    calibration, evaluation = case.data()
    paths = folder / f"{case.name}-calibration.npz", folder / f"{case.name}-evaluation.npz"
    for path, (x, y) in zip(paths, (calibration, evaluation), strict=True):
        np.savez(path, x=x, y=y)
    return paths
