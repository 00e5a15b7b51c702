"""Everything that can be wrong with what a user gives: one clear line, the documented code, nothing half-written."""

import errno
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from . import models
from .conftest import Project, Result, Run

Break = Callable[[Project], list[object]]


def refused(result: Result, *said: str, code: int = 2) -> None:
    """One line on standard error that says all of this, that exit code, and nothing on standard output."""
    assert result.code == code
    assert "Traceback" not in result.err
    lines = result.err.strip().splitlines()
    assert len(lines) == 1, result.err
    assert lines[0].startswith("edgeq: ")
    for part in said:
        assert part in lines[0]
    assert result.out == ""


def left(project: Project) -> list[str]:
    """What a run left beside the project's own files."""
    known = {"model.onnx", "data.npz", "evaluation.npz"}
    return sorted(str(p.relative_to(project.folder)) for p in project.folder.rglob("*") if p.name not in known)


def test_a_good_run_leaves_a_release_and_its_run_folder(edgeq: Run, project: Project) -> None:
    # The control of everything below: the same command on unbroken files.
    result = edgeq(*project.arguments())
    assert result.code in (0, 3), result.err
    assert result.err == ""
    written = {path.name for path in project.output.iterdir()}
    assert {"model.onnx", "model.tflite", "report.json", "junit.xml", "summary.md", "edgeq.lock"} <= written
    assert {path.name for path in project.output.parent.iterdir()} == {"release", ".release.run"}


# The model.


def test_no_such_model(edgeq: Run, project: Project) -> None:
    result = edgeq(*project.arguments(model=project.folder / "absent.onnx"))
    refused(result, "absent.onnx", "no such file")
    assert left(project) == []


@pytest.mark.parametrize("keep", [0.0, 0.01, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_model(edgeq: Run, project: Project, keep: float) -> None:
    whole = project.model.read_bytes()
    project.model.write_bytes(whole[: int(len(whole) * keep)])
    refused(edgeq(*project.arguments()), "model.onnx")
    assert left(project) == []


def test_a_model_that_is_something_else(edgeq: Run, project: Project) -> None:
    project.model.write_bytes(b"<html>404: no such model</html>" * 20)
    refused(edgeq(*project.arguments()), "model.onnx")
    assert left(project) == []


def test_an_op_that_edgeq_does_not_know(edgeq: Run, project: Project) -> None:
    node = helper.make_node("Wavelet", ["c1"], ["unknown"], name="analysis", domain="com.acme")
    onnx.save(models.network(extra=[node]), project.model)
    refused(edgeq(*project.arguments()), "com.acme::Wavelet", "'analysis'")
    assert left(project) == []


def _external(project: Project, location: str, data: bytes | None) -> None:
    model = models.network()
    tensor = next(t for t in model.graph.initializer if t.name == "w1")
    raw = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(len(raw)))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    project.model.write_bytes(model.SerializeToString())
    if data is not None:
        (project.folder / location).resolve().write_bytes(raw if data == b"whole" else raw[:100])


def test_external_data_beside_the_model_is_read(edgeq: Run, project: Project) -> None:
    _external(project, "w1.bin", b"whole")
    result = edgeq(*project.arguments())
    assert result.code in (0, 3), result.out + result.err


def test_external_data_outside_of_the_folder(edgeq: Run, project: Project) -> None:
    inner = project.folder / "inner"
    inner.mkdir()
    moved = Project(project.folder, inner / "model.onnx", project.data, project.evaluation)
    _external(moved, "../secret.bin", None)
    (project.folder / "secret.bin").write_bytes(b"\0" * 10_000)
    refused(edgeq(*moved.arguments()), "'w1'", "outside of the model's folder", "../secret.bin")


def test_external_data_outside_through_a_link(
    edgeq: Run, project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    _external(project, "w1.bin", None)
    secret = tmp_path_factory.mktemp("elsewhere") / "secret.bin"
    secret.write_bytes(b"\0" * 10_000)
    (project.folder / "w1.bin").symlink_to(secret)
    refused(edgeq(*project.arguments()), "'w1'", "outside of the model's folder")


def test_external_data_that_is_missing(edgeq: Run, project: Project) -> None:
    _external(project, "w1.bin", None)
    refused(edgeq(*project.arguments()), "w1.bin", "missing")
    assert left(project) == []


def test_external_data_that_is_truncated(edgeq: Run, project: Project) -> None:
    _external(project, "w1.bin", b"half")
    refused(edgeq(*project.arguments()), "w1.bin", "truncated")
    assert left(project) == ["w1.bin"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite(edgeq: Run, project: Project, value: float) -> None:
    constants = models.weights()
    constants["w2"][3, 2, 1, 0] = value
    onnx.save(models.network(constants), project.model)
    refused(edgeq(*project.arguments()), "'w2'", "'second'", "1 NaN or infinite")
    assert left(project) == []


# The samples.


def _samples(path: Path, **changed: object) -> None:
    with np.load(path) as stored:
        arrays = {key: stored[key] for key in stored} | changed
    np.savez(path, **{key: array for key, array in arrays.items() if array is not None})  # type: ignore[arg-type]


def test_no_such_data(edgeq: Run, project: Project) -> None:
    refused(edgeq(*project.arguments(data=project.folder / "absent.npz")), "absent.npz", "does not exist")
    assert left(project) == []


def test_truncated_data(edgeq: Run, project: Project) -> None:
    project.data.write_bytes(project.data.read_bytes()[:-200])
    refused(edgeq(*project.arguments()), "data.npz")
    assert left(project) == []


@pytest.mark.parametrize("shape", [(32, 3, 8, 9), (32, 8, 8, 3), (32, 3, 8), (32,)])
def test_samples_of_another_shape(edgeq: Run, project: Project, shape: tuple[int, ...]) -> None:
    _samples(project.data, x=np.zeros(shape, np.float32))
    refused(edgeq(*project.arguments()), "data.npz", "'x'", "(3, 8, 8)")
    assert left(project) == []


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.bool_])
def test_samples_of_another_type(edgeq: Run, project: Project, dtype: type) -> None:
    _samples(project.data, x=np.zeros((32, *models.INPUT), dtype))
    refused(edgeq(*project.arguments()), "data.npz", np.dtype(dtype).name, "float32")
    assert left(project) == []


def test_samples_of_objects_are_never_unpickled(edgeq: Run, project: Project, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (os.mkdir, (str(tmp_path / "sprung"),))

    _samples(project.data, x=np.array([Trap()] * 32, dtype=object))
    refused(edgeq(*project.arguments()), "data.npz", "object")
    assert not (tmp_path / "sprung").exists()


def test_no_samples(edgeq: Run, project: Project) -> None:
    _samples(project.data, x=np.zeros((0, *models.INPUT), np.float32), y=np.zeros(0, np.int64))
    refused(edgeq(*project.arguments()), "data.npz", "no samples")
    assert left(project) == []


def test_no_samples_to_evaluate(edgeq: Run, project: Project) -> None:
    _samples(project.evaluation, x=np.zeros((0, *models.INPUT), np.float32), y=np.zeros(0, np.int64))
    refused(edgeq(*project.arguments()), "evaluation.npz", "no samples")
    assert left(project) == []


def test_labels_of_another_length(edgeq: Run, project: Project) -> None:
    _samples(project.evaluation, y=np.zeros(63, np.int64))
    refused(edgeq(*project.arguments()), "evaluation.npz", "64 samples but 63 labels")
    assert left(project) == []


@pytest.mark.parametrize("which", ["data", "evaluation"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_not_finite(edgeq: Run, project: Project, which: str, value: float) -> None:
    path: Path = getattr(project, which)
    with np.load(path) as stored:
        x = stored["x"].copy()
    x[7, 1, 2, 3] = value
    _samples(path, x=x)
    refused(edgeq(*project.arguments()), path.name, "sample 7", "NaN or infinity")
    assert left(project) == []


def test_a_sample_to_calibrate_and_to_evaluate_with(edgeq: Run, project: Project) -> None:
    with np.load(project.evaluation) as stored:
        x, y = stored["x"].copy(), stored["y"].copy()
    with np.load(project.data) as stored:
        x[5], y[5] = stored["x"][9], stored["y"][9]
    _samples(project.evaluation, x=x, y=y)
    refused(edgeq(*project.arguments()), "calibration", "evaluation")
    assert left(project) == []


def test_data_without_the_models_input(edgeq: Run, project: Project) -> None:
    _samples(project.data, x=None, pixels=np.zeros((4, 2), np.float32), other=np.zeros((4, 2), np.float32))
    refused(edgeq(*project.arguments()), "data.npz", "pixels", "model's inputs are x")
    assert left(project) == []


# A factory, and its weights.

_FACTORY = """
import torch
from torch import nn

class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        return self.head(torch.relu(self.conv(x)).mean((2, 3)))

def raising():
    raise RuntimeError("the vocabulary is not installed")

def number():
    return 4

class Data(Small):
    def forward(self, x):
        return x if x.sum() > 0 else -x
"""


@pytest.fixture
def factory(project: Project, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """``module:name`` in a module of the working folder; a name of its own for each test, since modules stay loaded."""
    module = f"small_{abs(hash(str(project.folder))):x}"
    (project.folder / f"{module}.py").write_text(_FACTORY)
    monkeypatch.chdir(project.folder)
    return lambda name: f"{module}:{name}"


_SHAPE = ("--input-shape", "1,3,8,8")


def test_a_factory_that_raises(edgeq: Run, project: Project, factory: Callable[[str], str]) -> None:
    result = edgeq(*project.arguments(model=factory("raising")), *_SHAPE)
    refused(result, "the factory raised RuntimeError", "the vocabulary is not installed")
    assert not project.output.parent.exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [("number", "returned int, not a torch.nn.Module"), ("absent", "absent"), ("Data", "torch.onnx.export failed")],
)
def test_a_factory_that_gives_no_model(
    edgeq: Run, project: Project, factory: Callable[[str], str], name: str, said: str
) -> None:
    refused(edgeq(*project.arguments(model=factory(name)), *_SHAPE), said)
    assert not project.output.parent.exists()


def test_a_factory_that_is_not_there(edgeq: Run, project: Project) -> None:
    refused(edgeq(*project.arguments(model="no_such_package.zoo:model"), *_SHAPE), "no_such_package")


def test_a_factory_without_an_example(edgeq: Run, project: Project, factory: Callable[[str], str]) -> None:
    refused(edgeq(*project.arguments(model=factory("Small"))), "--input-shape")


def test_a_pickle_where_weights_are_expected(edgeq: Run, project: Project, factory: Callable[[str], str]) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (os.mkdir, (str(project.folder / "sprung"),))

    for number, write in enumerate((lambda p: p.write_bytes(pickle.dumps(Trap())), lambda p: torch.save(Trap(), p))):
        path = project.folder / f"weights{number}.pt"
        write(path)
        result = edgeq(*project.arguments(model=factory("Small")), *_SHAPE, "--weights", path)
        refused(result, path.name, "not a plain state dict of tensors")
        assert not (project.folder / "sprung").exists()


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"conv.weight": torch.zeros(8, 3, 3, 3)}, "do not fit the model"),
        ({"conv.weight": torch.zeros(1), "other": torch.zeros(1)}, "do not fit the model"),
        ([torch.zeros(3)], "does not hold a state dict"),
    ],
)
def test_weights_of_another_model(
    edgeq: Run, project: Project, factory: Callable[[str], str], state: object, said: str
) -> None:
    torch.save(state, project.folder / "weights.pt")
    result = edgeq(*project.arguments(model=factory("Small")), *_SHAPE, "--weights", project.folder / "weights.pt")
    refused(result, "weights.pt", said)


def test_weights_without_a_factory(edgeq: Run, project: Project) -> None:
    refused(edgeq(*project.arguments(), "--weights", project.folder / "w.pt"), "--weights", "factory")
    refused(edgeq(*project.arguments(model=project.folder / "w.pt")), "package.module:factory --weights")


# Options.


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--bits", "w9a8"), "2 to 8 bits"),
        (("--bits", "int8"), "not a number format"),
        (("--bits-for", "first"), "NAME=VALUE"),
        (("--float", "no_such_layer*"), "matches no layer"),
        (("--observer", "median"), "min-max"),
        (("--method", "guess"), "nearest"),
        (("--metric", "f1"), "top1"),
        (("--device", "toaster"), "toaster"),
        (("--shape", "y=1,3,8,8"), "inputs are x"),
        (("--shape", "x=1,3,8"), "declares"),
        (("--samples", "0"), "--samples"),
        (("--eval-samples", "0"), "--eval-samples"),
        (("--max-drop", "-1"), "drop"),
        (("--latency-runs", "-1"), "--latency-runs"),
        (("--resize", "0"), "resize"),
        (("--no-such-option",), "--no-such-option"),
    ],
)
def test_an_option_that_makes_no_sense(edgeq: Run, project: Project, options: tuple[str, ...], said: str) -> None:
    refused(edgeq(*project.arguments(), *options), said)
    assert not project.output.exists()


def test_an_unknown_command(edgeq: Run) -> None:
    refused(edgeq("convrt"), "convrt")


# The output folder.


def test_an_output_below_a_file(edgeq: Run, project: Project) -> None:
    (project.folder / "out").write_text("a file")
    refused(edgeq(*project.arguments()), "out")
    assert (project.folder / "out").read_text() == "a file"


def test_an_output_that_is_a_file(edgeq: Run, project: Project) -> None:
    target = project.folder / "out"
    target.write_text("a file")
    refused(edgeq(*project.arguments(output=target)), "out", "is a file")
    assert target.read_text() == "a file"
    assert left(project) == ["out"]


def test_an_output_that_holds_other_files(edgeq: Run, project: Project) -> None:
    project.output.mkdir(parents=True)
    (project.output / "thesis.tex").write_text("years of work")
    refused(edgeq(*project.arguments()), "holds files that are not a release")
    assert left(project) == ["out", "out/release", "out/release/thesis.tex"]


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_an_output_that_cannot_be_written(
    edgeq: Run, project: Project, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    # Not by permissions, which do not bind a superuser: the system call itself refuses.
    real = os.mkdir

    def refuse(path: str, *more: object, **named: object) -> None:
        if Path(path).is_relative_to(project.output.parent):
            raise OSError(code, os.strerror(code), str(path))
        real(path, *more, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "mkdir", refuse)
    refused(edgeq(*project.arguments()), "out", "choose another")
    assert left(project) == []
