"""Every source of a model: what is read, that it computes the same, and each refusal with its reason."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file
from torch import nn

from edgeq.errors import ModelError, UnsupportedOpError, UsageError
from edgeq.exporters.onnx import export
from edgeq.graph.execute import to_torch
from edgeq.graph.graph import Graph, module_path
from edgeq.graph.sources import load_model

Array = npt.NDArray[Any]
X = np.random.default_rng(0).normal(size=(3, 3, 8, 8)).astype(np.float32)


def model(opset: int = 17, **changed: Array) -> onnx.ModelProto:
    """Conv, batch norm, ReLU, mean, squeeze, matrix product: ops whose form changed between opsets."""
    rng = np.random.default_rng(1)
    arrays = {
        "w": rng.normal(size=(4, 3, 3, 3)), "g": rng.normal(size=4), "b": rng.normal(size=4), "m": rng.normal(size=4),
        "v": rng.uniform(1, 2, 4), "f": rng.normal(size=(4, 5)), "axes": np.array([2, 3]),
    }  # fmt: skip
    constants = {k: a.astype(np.int64 if k == "axes" else np.float32) for k, a in arrays.items()} | changed
    attribute = {} if opset >= 18 else {"axes": [2, 3]}
    squeezed = ["mean", "axes"] if opset >= 13 else ["mean"]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "g", "b", "m", "v"], ["d"], name="norm"),
        helper.make_node("Relu", ["d"], ["r"], name="relu"),
        helper.make_node("ReduceMean", ["r", "axes"] if opset >= 18 else ["r"], ["mean"], name="pool", **attribute),
        helper.make_node("Squeeze", squeezed, ["s"], name="squeeze", **({} if opset >= 13 else {"axes": [2, 3]})),
        helper.make_node("MatMul", ["s", "f"], ["y"], name="head"),
    ]
    if opset < 13:
        constants.pop("axes")
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5])],
        [numpy_helper.from_array(array, key) for key, array in constants.items()],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=min(10, max(6, opset - 9))
    )


def computes_the_same(graph: Graph, path: Path) -> None:
    expected = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": X})[0]
    with torch.no_grad():
        found = to_torch(graph)(torch.from_numpy(X)).numpy()
    # float32 sums in another order, batch norm folded.
    assert np.allclose(found, expected, rtol=1e-4, atol=1e-4)


# ONNX files.


@pytest.mark.parametrize("opset", range(11, 23))
def test_every_opset_from_11_on(tmp_path: Path, opset: int) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(model(opset), path)
    graph = load_model(path)
    assert graph.opset >= 13
    assert "BatchNormalization" not in {node.op_type for node in graph.nodes}
    computes_the_same(graph, path)


def test_sizes_below_zero_are_unknown(tmp_path: Path) -> None:
    proto = model()
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1  # as Paddle's exporter once wrote it
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    computes_the_same(load_model(path), path)
    assert load_model(path, shapes={"x": (2, 3, 8, 8)}).inputs[0].shape == (2, 3, 8, 8)


def test_external_data(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(model(), path, save_as_external_data=True, location="weights.bin", size_threshold=64)
    assert (tmp_path / "weights.bin").stat().st_size >= 432
    graph = load_model(path)
    computes_the_same(graph, path)
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "model.onnx").write_bytes(export(graph, None))
    computes_the_same(graph, tmp_path / "alone" / "model.onnx")


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/hostname", "folder/../../weights.bin"])
def test_external_data_elsewhere(tmp_path: Path, location: str) -> None:
    proto = model()
    tensor = next(t for t in proto.graph.initializer if t.name == "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    (tmp_path / "inner").mkdir()
    (tmp_path / "weights.bin").write_bytes(b"\0" * 1000)
    path = tmp_path / "inner" / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match="'w' refers to data outside of the model's folder"):
        load_model(path)


def test_nodes_in_any_order(tmp_path: Path) -> None:
    proto = model()
    nodes = list(reversed(proto.graph.node))
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    (tmp_path / "shuffled.onnx").write_bytes(proto.SerializeToString())
    onnx.save(model(), tmp_path / "model.onnx")
    computes_the_same(load_model(tmp_path / "shuffled.onnx"), tmp_path / "model.onnx")


def test_nodes_in_a_circle(tmp_path: Path) -> None:
    proto = model()
    proto.graph.node[0].input[0] = "r"
    (tmp_path / "circle.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match=r"circle\.onnx: its nodes depend on one another"):
        load_model(tmp_path / "circle.onnx")


def test_a_value_that_nothing_makes(tmp_path: Path) -> None:
    proto = model()
    proto.graph.node[0].input[0] = "nowhere"
    (tmp_path / "dangling.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match="nowhere"):
        to_torch(load_model(tmp_path / "dangling.onnx"))


@pytest.mark.parametrize("cut", [0, 1, 10, 200, 500])
def test_a_truncated_file(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(model().SerializeToString()[:-cut] if cut > 1 else b"\x08" * cut)
    with pytest.raises(ModelError, match=r"model\.onnx"):
        load_model(path)


def test_no_opset(tmp_path: Path) -> None:
    proto = model()
    del proto.opset_import[:]
    proto.opset_import.add(domain="com.acme", version=1)
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match="no version of the default operator set"):
        load_model(tmp_path / "model.onnx")


@pytest.mark.parametrize("value", [np.nan, -np.inf])
@pytest.mark.parametrize("name", ["w", "f"])
def test_weights_that_are_not_finite(tmp_path: Path, name: str, value: float) -> None:
    proto = model()
    tensor = next(t for t in proto.graph.initializer if t.name == name)
    array = numpy_helper.to_array(tensor).copy()
    array.flat[3] = value
    tensor.CopyFrom(numpy_helper.from_array(array, name))
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match="NaN or infinite"):
        load_model(tmp_path / "model.onnx")


def test_every_unknown_op_is_named_with_its_node(tmp_path: Path) -> None:
    proto = model()
    for number, op in enumerate(("Wavelet", "Wavelet", "Fourier")):
        proto.graph.node.append(helper.make_node(op, ["x"], [f"o{number}"], name=f"node{number}", domain="com.acme"))
        proto.graph.output.append(helper.make_tensor_value_info(f"o{number}", TensorProto.FLOAT, None))
    proto.opset_import.add(domain="com.acme", version=1)
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(UnsupportedOpError) as refused:
        to_torch(load_model(tmp_path / "model.onnx"))
    message = str(refused.value)
    assert "com.acme::Wavelet (node 'node0' and 1 more)" in message
    assert "com.acme::Fourier (node 'node2')" in message
    assert "\n" not in message


# Shapes.


def test_an_unknown_dimension_is_fixed(tmp_path: Path) -> None:
    proto = model()
    proto.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    onnx.save(proto, tmp_path / "model.onnx")
    graph = load_model(tmp_path / "model.onnx", shapes={"x": (1, 3, 8, 8)})
    assert list(graph.inputs[0].shape or ()) == [1, 3, 8, 8]


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ({"z": (1,)}, "inputs are x"),
        ({"x": (1, 4, 8, 8)}, "the model declares"),
        ({"x": (1, 3, 8)}, "the model declares"),
    ],
)
def test_a_shape_that_does_not_fit(tmp_path: Path, shapes: dict[str, tuple[int, ...]], said: str) -> None:
    onnx.save(model(), tmp_path / "model.onnx")
    with pytest.raises(UsageError, match=said):
        load_model(tmp_path / "model.onnx", shapes=shapes)


# PyTorch.


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm(self.conv1(x)) + x)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.layer1 = nn.Sequential(Block(), Block())
        self.head = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.head(self.layer1(self.stem(x)).mean((2, 3)))
        return result


def build() -> nn.Module:
    torch.manual_seed(0)
    net = Net()
    net.layer1[0].norm.running_mean.uniform_()  # type: ignore[union-attr, operator]
    return net


def raising() -> nn.Module:
    raise OSError("no such checkpoint")


def no_module() -> int:
    return 4


@pytest.fixture
def spec(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """``module:name`` of a function in this file."""
    import sys

    monkeypatch.setitem(sys.modules, "factories", sys.modules[__name__])
    return lambda name: f"factories:{name}"


EXAMPLE = [torch.zeros(2, 3, 8, 8)]


def equals(graph: Graph, net: nn.Module) -> None:
    with torch.no_grad():
        expected = net.eval()(torch.from_numpy(X))
        found = to_torch(graph)(torch.from_numpy(X))
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)  # batch norm folded


def test_a_factory(spec: Callable[[str], str]) -> None:
    graph = load_model(spec("build"), example=EXAMPLE)
    equals(graph, build())
    assert list(graph.inputs[0].shape or ())[1:] == [3, 8, 8]
    assert not isinstance((graph.inputs[0].shape or [0])[0], int), "the batch is free"


def test_nodes_are_tied_to_their_modules(spec: Callable[[str], str]) -> None:
    graph = load_model(spec("build"), example=EXAMPLE)
    convolutions = [node for node in graph.nodes if node.op_type == "Conv"]
    paths = [module_path(node) for node in convolutions]
    assert paths[0] == "stem"
    assert all(path.startswith(f"layer1.{i}.") for i, path in enumerate(paths[1:]))
    assert module_path(next(node for node in graph.nodes if node.op_type == "Gemm")) == "head"
    assert all(module_path(node) for node in graph.nodes if node.op_type in ("Conv", "Relu", "Add", "Gemm"))


def test_nothing_of_the_local_machine_is_exported(spec: Callable[[str], str]) -> None:
    data = export(load_model(spec("build"), example=EXAMPLE), None)
    for part in (str(Path.cwd()), str(Path(__file__).parent), Path(torch.__file__).parts[1], "site-packages", ".py"):
        assert part.encode() not in data


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_weights(tmp_path: Path, spec: Callable[[str], str], suffix: str) -> None:
    torch.manual_seed(5)
    net = Net()
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pt":
        torch.save({"state_dict": {f"module.{key}": value for key, value in net.state_dict().items()}}, path)
    else:
        save_file(net.state_dict(), path)
    equals(load_model(spec("build"), weights=path, example=EXAMPLE), net)


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda p: p.write_bytes(pickle.dumps({"stem.weight": [1, 2]})), "not a plain state dict of tensors"),
        (lambda p: torch.save(Net(), p), "not a plain state dict of tensors"),
        (lambda p: torch.save([torch.zeros(1)], p), "does not hold a state dict"),
        (lambda p: torch.save({"other": torch.zeros(1)}, p), "do not fit the model"),
        (lambda p: p.write_bytes(b"\x00" * 64), "not a plain state dict of tensors"),
        (lambda p: None, "no such file"),
    ],
)
def test_weights_that_are_refused(
    tmp_path: Path, spec: Callable[[str], str], write: Callable[[Path], None], said: str
) -> None:
    path = tmp_path / "weights.pt"
    write(path)
    with pytest.raises(ModelError, match=said):
        load_model(spec("build"), weights=path, example=EXAMPLE)


@pytest.mark.parametrize(
    ("name", "said"),
    [("raising", "factory raised OSError: no such checkpoint"), ("no_module", "returned int"), ("absent", "absent")],
)
def test_factories_that_are_refused(spec: Callable[[str], str], name: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        load_model(spec(name), example=EXAMPLE)


def test_an_exported_program(tmp_path: Path) -> None:
    batch = torch.export.Dim.DYNAMIC
    program = torch.export.export(build().eval(), (EXAMPLE[0],), dynamic_shapes=({0: batch},))
    torch.export.save(program, tmp_path / "model.pt2")
    equals(load_model(tmp_path / "model.pt2"), build())
    (tmp_path / "model.pt2").write_bytes((tmp_path / "model.pt2").read_bytes()[:400])
    with pytest.raises(ModelError, match="not a readable"):
        load_model(tmp_path / "model.pt2")
    with pytest.raises(ModelError, match="no such file"):
        load_model(tmp_path / "absent.pt2")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("weights.pt", "a weights file alone has no architecture"),
        ("model.tflite", "give the ONNX or PyTorch model that it was made of"),
        ("package.module:factory", "a factory needs --input-shape"),
        (":factory", "write package.module:factory"),
    ],
)
def test_what_is_no_model(source: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        load_model(source, example=EXAMPLE if source.startswith(":") else None)


def test_weights_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--weights belongs to a factory"):
        load_model(tmp_path / "model.onnx", weights=tmp_path / "weights.pt")
