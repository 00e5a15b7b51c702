"""Damage to a TFLite file: of its bytes, most where the structure is, since a flatbuffer is all offsets."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgeq.errors import EdgeqError
from edgeq.exporters.tflite import export
from edgeq.graph.sources import load_model

from .seeds import GENERATED, Seed

_HOSTILE = (
    b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\x01\0\0\0", b"\xf0\xff\xff\xff",
    b"\x10\0\0\0",
)  # fmt: skip


@dataclass(frozen=True)
class Sound:
    """An unbroken file by its name."""

    name: str
    data: bytes


def sound_files(folder: Path, assets: Path | None) -> list[Sound]:
    """Float files that edgeq writes of the generated models, and integer ones that another tool wrote."""
    found = []
    for make in GENERATED:
        written = _written(make(), folder)
        if written is not None:
            found.append(written)
    for path in ("kws_dscnn/official_int8.tflite", "ad_autoencoder/official_int8.tflite"):
        if assets is not None and (assets / path).is_file():
            found.append(Sound(path.partition("/")[0], (assets / path).read_bytes()))
    return found


def _written(seed: Seed, folder: Path) -> Sound | None:
    (folder / "seed.onnx").write_bytes(seed.model.SerializeToString())
    for name, content in seed.beside.items():
        (folder / name).write_bytes(content)
    try:
        return Sound(seed.name, export(load_model(folder / "seed.onnx"), None))
    except EdgeqError:  # what TFLite cannot express
        return None


def _bytes(damaged: bytearray, rng: random.Random) -> None:
    damaged[rng.randrange(8, len(damaged))] = rng.randrange(256)


def _words(damaged: bytearray, rng: random.Random) -> None:
    at = rng.randrange(8, len(damaged) - 3)
    damaged[at : at + 4] = rng.choice(_HOSTILE)


def _bits(damaged: bytearray, rng: random.Random) -> None:
    damaged[rng.randrange(8, len(damaged))] ^= 1 << rng.randrange(8)


def _offsets(damaged: bytearray, rng: random.Random) -> None:
    """A word becomes one that stands elsewhere: offsets then lead into other tables."""
    at, source = (rng.randrange(2, len(damaged) // 4 - 1) * 4 for _ in range(2))
    damaged[at : at + 4] = damaged[source : source + 4]


def _insertion(damaged: bytearray, rng: random.Random) -> None:
    at = rng.randrange(8, len(damaged))
    damaged[at:at] = bytes(rng.randrange(1, 9))


_CHANGES: tuple[Callable[[bytearray, random.Random], None], ...] = (_bytes, _words, _bits, _offsets, _insertion)


def mutant(sound: Sound, index: int) -> tuple[str, bytes]:
    """(what was done, the file) of one index; always the same."""
    rng = random.Random(f"{sound.name}-{index}")
    if rng.random() < 0.15:
        return "cut", sound.data[: rng.randrange(len(sound.data))]
    damaged, done = bytearray(sound.data), []
    for _ in range(rng.choice((1, 1, 2, 5, 40))):
        change = rng.choice(_CHANGES)
        change(damaged, rng)
        done.append(change.__name__.strip("_"))
    return "+".join(dict.fromkeys(done)), bytes(damaged)
