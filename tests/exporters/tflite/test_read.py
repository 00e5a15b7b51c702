"""Reading files back: what is in them, and that no damage gets further than one line."""

import random
import struct
from collections.abc import Iterator

import numpy as np
import pytest

from edgeq.errors import ModelError
from edgeq.exporters.tflite import build, export, read
from edgeq.exporters.tflite.flat import Flat

from .networks import residual
from .single_op import integer_plan, samples


@pytest.fixture(scope="module")
def file() -> bytes:
    graph = residual()
    return export(graph, integer_plan(graph, samples(graph)))


def test_reads_what_was_written(file: bytes) -> None:
    graph = residual()
    plan = integer_plan(graph, samples(graph))
    found = read(file)
    assert found.version == 3
    assert list(found.inputs) == ["x0"]
    assert list(found.outputs) == [graph.outputs[0].name]
    assert found.layouts["x0"] == (0, 2, 3, 1)
    tensor = found.tensors[found.inputs["x0"]]
    assert (tensor.dtype, tensor.shape, tensor.integer) == ("int8", (1, 8, 8, 3), True)
    np.testing.assert_array_equal(tensor.scale[0], plan.activations["x0"].scale)
    convolution = next(operator for operator in found.operators if operator.code == "CONV_2D")
    # 8 x 8 outputs of 4 channels, each of 3 x 3 x 3 taps.
    assert found.macs(convolution) == 8 * 8 * 4 * 27
    assert found.computes_on_codes(convolution)
    with pytest.raises(ModelError, match="computed, not constant"):
        _ = tensor.array


def test_float_file_computes_on_no_codes() -> None:
    found = read(build(residual(), None).data)
    assert not any(found.computes_on_codes(operator) for operator in found.operators)


@pytest.mark.parametrize("data", [b"", b"TFL3", b"\0" * 64, b"PK\x03\x04" * 16], ids=["empty", "short", "zeros", "zip"])
def test_other_files_are_refused(data: bytes) -> None:
    with pytest.raises(ModelError, match="not a TFLite model"):
        read(data)


def test_a_file_cut_short_is_refused_wherever_it_is_cut(file: bytes) -> None:
    for end in range(16, len(file) - 64, 97):
        with pytest.raises(ModelError):
            _use(file[:end])


def test_a_vector_of_two_to_the_thirty_two_is_refused_at_once(file: bytes) -> None:
    damaged = bytearray(file)
    root = struct.unpack_from("<I", file, 0)[0]
    vtable = root - struct.unpack_from("<i", file, root)[0]
    field = root + struct.unpack_from("<H", file, vtable + 4 + 2 * 2)[0]
    start = field + struct.unpack_from("<I", file, field)[0]
    struct.pack_into("<I", damaged, start, 0xFFFFFFFF)
    with pytest.raises(ModelError, match="beyond the end"):
        read(bytes(damaged))


def test_vectors_that_unfold_into_one_another_are_stopped() -> None:
    flat = Flat(bytes(64), budget=8)
    flat.slice(0, 8)
    with pytest.raises(ModelError, match="overlap"):
        flat.slice(0, 1)


def mutations(file: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Files with a few bytes changed, most where the structure is, some cut short."""
    choose = random.Random(seed)
    hostile = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\x01\0\0\0", b"\xf0\xff\xff\xff")
    for _ in range(count):
        damaged = bytearray(file[: choose.randrange(len(file))] if choose.random() < 0.1 else file)
        for _ in range(choose.choice((1, 1, 2, 5, 40))):
            if len(damaged) < 8:
                break
            at = choose.randrange(8, len(damaged)) if len(damaged) > 8 else 0
            if choose.random() < 0.5:
                damaged[at] = choose.randrange(256)
            else:
                piece = choose.choice(hostile)
                damaged[at : at + 4] = piece[: len(damaged) - at]
        yield bytes(damaged)


def _use(data: bytes) -> None:
    found = read(data)
    for operator in found.operators:
        found.macs(operator)
        found.computes_on_codes(operator)
    for tensor in found.tensors:
        if tensor.data is not None:
            _ = tensor.array


@pytest.mark.parametrize("count", [2000, pytest.param(20000, marks=pytest.mark.slow)])
def test_mutated_files_end_in_one_line(file: bytes, count: int) -> None:
    messages = []
    for data in mutations(file, count, seed=count):
        try:
            _use(data)
        except ModelError as error:
            messages.append(str(error))
    assert count * 0.2 < len(messages) < count
    assert not any("\n" in message for message in messages)
