"""The real models and data of the benchmarks: EDGEQ_ASSETS, or ../shared/assets beside the repository."""

import importlib.util
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
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


Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Case:
    """A model with samples to calibrate and to evaluate, kept apart.

    Attributes:
        name: of the row.
        model: the file, or module:factory.
        data: (calibration, evaluation) arrays, by input name or x and y.
        options: further options of the pipeline.
        judge: deployed first output -> what more there is to say of it.
    """

    name: str
    model: Path | str
    data: Callable[[], tuple[Arrays, Arrays]]
    options: dict[str, Any] = field(default_factory=dict)
    judge: Callable[[np.ndarray[Any, Any]], str] | None = None


def _cifar() -> tuple[Arrays, Arrays]:
    load = loader()
    (xc, yc), (x, y) = load.cifar10("train_20k"), load.cifar10("test")
    return {"x": xc, "y": yc}, {"x": x, "y": y}


def _split(arrays: Arrays, calibration: int) -> tuple[Arrays, Arrays]:
    # The keyword set repeats some recordings: each content is drawn once, so that no two sets share one.
    x = arrays["x"]
    _, distinct = np.unique(x.reshape(len(x), -1), axis=0, return_index=True)
    order = np.random.default_rng(0).permutation(np.sort(distinct))
    first, rest = np.sort(order[:calibration]), np.sort(order[calibration:])
    return {key: array[first] for key, array in arrays.items()}, {key: array[rest] for key, array in arrays.items()}


def _imagenet() -> tuple[Arrays, Arrays]:
    x, y = loader().imagenet_sample()
    return _split({"x": x, "y": y}, 200)


def _keywords() -> tuple[Arrays, Arrays]:
    x, y = loader().keywords()
    return _split({"x": x, "y": y}, 300)


def _noise() -> tuple[Arrays, Arrays]:
    return _split({"x": np.random.default_rng(0).normal(size=(800, 640)).astype(np.float32)}, 400)


def _faces() -> tuple[Arrays, Arrays]:
    """Images of the ImageNet sample at 320 x 240, as the detector takes them; one whole input each."""
    from PIL import Image

    files = sorted((FOLDER / "imagenet_sample224").glob("*.jpg"))[::8]
    pixels = np.stack([np.asarray(Image.open(f).convert("RGB").resize((320, 240))) for f in files])
    x = ((pixels.astype(np.float32) - 127) / 128).transpose(0, 3, 1, 2)[:, None]
    return _split({"x": np.ascontiguousarray(x)}, 64)


def speech_with_states(path: Path) -> tuple[Arrays, Arrays]:
    """Frames of speech with the recurrent state that the float model had reached, one whole input each."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    audio, _ = loader().speech_frames()
    state, context = np.zeros((2, 1, 128), np.float32), np.zeros(64, np.float32)
    frames, states = [], []
    for start in range(0, 1000 * 512, 512):
        frames.append(np.concatenate([context, audio[start : start + 512]])[None])
        states.append(state)
        context = frames[-1][0, -64:]
        feed = {"input": frames[-1], "state": state, "sr": np.array(16000)}
        _, state = session.run(None, {value.name: feed[value.name] for value in session.get_inputs()})
    halves = [{"input": np.stack(frames[part]), "state": np.stack(states[part])} for part in _HALVES]
    return halves[0], halves[1]


def _speech_judged(path: Path, deployed: np.ndarray[Any, Any]) -> str:
    """Area under the curve of the second half's frames, each with the state that the float model had reached."""
    import onnxruntime
    from scipy.stats import mannwhitneyu

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = {value.name for value in session.get_inputs()}
    frames = speech_with_states(path)[1] | {"sr": np.full(600, 16000)}
    real = [session.run(None, {k: np.asarray(frames[k][i]) for k in names})[0].item() for i in range(600)]
    labels = np.asarray(loader().speech_frames()[1][400:1000], bool)

    def area(scores: np.ndarray[Any, Any]) -> float:
        inside, outside = scores[labels], scores[~labels]
        return float(mannwhitneyu(inside, outside).statistic) / (len(inside) * len(outside))

    return f"AUC {area(np.array(real)):.4f} float, {area(deployed.reshape(-1)):.4f} deployed"


_HALVES = (slice(0, 400), slice(400, None))


def _stories() -> tuple[Arrays, Arrays]:
    tokens = np.stack([s for s in loader().stories(300, 129)[0] if len(s) == 129])
    return {"x": tokens[:120, :-1]}, {"x": tokens[120:180, :-1], "y": tokens[120:180, 1:]}


CASES: tuple[Case, ...] = (
    Case("resnet20", FOLDER / "cifar_resnet_weights" / "resnet20.onnx", _cifar),
    Case("resnet56", FOLDER / "cifar_resnet_weights" / "resnet56.onnx", _cifar),
    Case("efficientnet_lite0", FOLDER / "efficientnet_lite0" / "efficientnet_lite0.onnx", _imagenet),
    Case("kws_dscnn", FOLDER / "kws_dscnn" / "kws_dscnn.onnx", _keywords),
)
#: Without labels, or with inputs that need a word: the first four are those that most benchmarks take.
MORE_CASES: tuple[Case, ...] = (
    Case("ad_autoencoder", FOLDER / "ad_autoencoder" / "ad_autoencoder.onnx", _noise, {"metric": "mse"}),
    Case("ultraface", FOLDER / "ultraface" / "version-RFB-320.onnx", _faces, {"samples": 64}),
    Case(
        "ultraface_without_postprocessing",
        FOLDER / "ultraface" / "version-RFB-320_without_postprocessing.onnx",
        _faces,
        {"samples": 64},
    ),
    *(
        Case(
            file,
            FOLDER / "silero_vad" / f"{file}.onnx",
            partial(speech_with_states, FOLDER / "silero_vad" / f"{file}.onnx"),
            {"shapes": {"input": (1, 576), "state": (2, 1, 128)}, "constants": {"sr": 16000}, "samples": 256},
            partial(_speech_judged, FOLDER / "silero_vad" / f"{file}.onnx"),
        )
        for file in ("silero_vad", "silero_vad_16k_op15")
    ),
    Case(
        "stories260k",
        "model:build",
        _stories,
        {
            "weights": FOLDER / "stories260k" / "stories260K.pt",
            "input_shapes": ((1, 128),),
            "input_types": ("int64",),
            "metric": "perplexity",
            "samples": 64,
        },
    ),
)


def write_samples(case: Case, folder: Path) -> tuple[Path, Path]:
    """The case's samples as ``calibration.npz`` and ``evaluation.npz`` in a folder."""
    parts = case.data()
    paths = folder / f"{case.name}-calibration.npz", folder / f"{case.name}-evaluation.npz"
    for path, arrays in zip(paths, parts, strict=True):
        np.savez(path, **arrays)  # type: ignore[arg-type]
    return paths
