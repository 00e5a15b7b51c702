"""The agent's file by itself: old Python, frames, nothing but the standard library and NumPy."""

import ast
import io
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeq.devices import agent

SOURCE = Path(agent.__file__).read_text()


def reader(data: bytes) -> agent.Read:
    return agent._exactly(io.BytesIO(data))


@given(
    st.dictionaries(st.text(max_size=5), st.integers() | st.text() | st.booleans()).filter(lambda d: "arrays" not in d),
    st.dictionaries(
        st.text(max_size=5),
        hnp.arrays(
            st.sampled_from(["f4", "f8", "i1", "u1", "i4", "i8", "?"]), hnp.array_shapes(min_dims=0, min_side=0)
        ),
        max_size=3,
    ),
)
def test_a_frame_comes_back_as_it_was(header: dict, arrays: dict) -> None:
    stream = io.BytesIO()
    agent.write_frame(stream, header, arrays)
    read, back = agent.read_frame(reader(stream.getvalue()))
    assert read == header
    assert list(back) == list(arrays)
    for name, array in arrays.items():
        assert back[name].dtype == array.dtype
        np.testing.assert_array_equal(back[name], array)


@given(st.data())
def test_no_flipped_bit_passes_unseen(data: st.DataObject) -> None:
    stream = io.BytesIO()
    agent.write_frame(stream, {"command": "run", "handle": "0"}, {"x": np.arange(12, dtype=np.float32)})
    frame = bytearray(stream.getvalue())
    frame[data.draw(st.integers(0, len(frame) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises((agent.FrameError, EOFError)):
        agent.read_frame(reader(bytes(frame)))


def test_the_file_is_python_3_8() -> None:
    ast.parse(SOURCE, feature_version=(3, 8))
    allowed = set(sys.stdlib_module_names) | {"numpy", "onnxruntime", "ai_edge_litert", "tflite_micro"}
    for node in ast.walk(ast.parse(SOURCE)):
        if isinstance(node, ast.Import):
            assert {alias.name.split(".")[0] for alias in node.names} <= allowed
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] in allowed


def test_a_client_of_another_protocol_is_refused() -> None:
    served = agent.Agent("null", Path())
    with pytest.raises(agent.AgentError, match="protocol"):
        served.do_hello({}, protocol=agent.PROTOCOL + 1, affinity=[])


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "A" * 64, "/" * 64])
def test_an_artefact_goes_nowhere_but_into_the_store(name: str) -> None:
    with pytest.raises(agent.AgentError, match="not a SHA-256"):
        agent.Agent("null", Path()).do_begin({}, sha256=name)


def test_the_models_take_turns() -> None:
    order = []

    class Recording:
        def __init__(self, name: str) -> None:
            self.name = name

        def invoke(self) -> None:
            order.append(self.name)

    times = agent.time_in_turn([Recording("A"), Recording("B")], warm_up=1, runs=2)
    assert "".join(order) == "ABABAB"
    assert times.shape == (2, 2)
    assert (times > 0).all()


def test_a_whole_inference_keeps_all_of_its_outputs() -> None:
    # A recurrent model: its state's first dimension is no number of samples.
    class Recurrent:
        inputs = ({"name": "x", "shape": [1, 3]}, {"name": "state", "shape": [2, 1, 4]})
        outputs = ({"name": "y"}, {"name": "next"})

        def feed(self, arrays: dict[str, np.ndarray]) -> None:
            self.fed = arrays

        def invoke(self) -> None: ...

        def fetch(self) -> dict[str, np.ndarray]:
            return {"y": self.fed["x"][:, :1], "next": self.fed["state"]}

    state = np.arange(8.0).reshape(2, 1, 4)
    found = agent.run_all(Recurrent(), {"x": np.ones((1, 3)), "state": state})
    assert found["y"].shape == (1, 1)
    np.testing.assert_array_equal(found["next"], state)


def test_a_full_batch_keeps_all_of_its_outputs() -> None:
    # A tagger of one sentence a time: its output's first dimension counts the words.
    class Tagger:
        inputs = ({"name": "words", "shape": [1, 40]},)
        outputs = ({"name": "tags"},)

        def feed(self, arrays: dict[str, np.ndarray]) -> None:
            self.fed = arrays

        def invoke(self) -> None: ...

        def fetch(self) -> dict[str, np.ndarray]:
            return {"tags": self.fed["words"][0]}

    words = np.arange(40.0)[None]
    np.testing.assert_array_equal(agent.run_all(Tagger(), {"words": words})["tags"], words[0])
