"""Quantized files of any make against their float model: names matched, weights read back exactly, faults refused."""

import itertools
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

from edgeq.basin.divergence import altitude, refer
from edgeq.basin.equalization import rescaling
from edgeq.basin.foreign import read_foreign
from edgeq.errors import ModelError
from edgeq.exporters.onnx import export
from edgeq.graph.sources.load import load_model
from edgeq.plan.bits import Bits

from . import demo

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, name: str) -> None:
        self.left = iter([{name: x.numpy()} for (x,) in demo.batches("train", 0, 64, 1)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.left, None)


def _peers(folder: Path, layout: QuantFormat, per_channel: bool) -> Path:
    source, target = folder / "float.onnx", folder / "quantized.onnx"
    source.write_bytes(export(demo.graph(), None))
    name = onnx.load(source).graph.input[0].name
    quantize_static(
        source, target, _Reader(name), quant_format=layout, per_channel=per_channel, weight_type=QuantType.QInt8
    )
    return target


@pytest.mark.parametrize("layout", [QuantFormat.QDQ, QuantFormat.QOperator], ids=["qdq", "qoperator"])
@pytest.mark.parametrize("per_channel", [True, False], ids=["channel", "tensor"])
def test_onnxruntimes_own_files_are_read_back(tmp_path: Path, layout: QuantFormat, per_channel: bool) -> None:
    path = _peers(tmp_path, layout, per_channel)
    found = read_foreign(demo.graph(), load_model(path))
    stored = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    landscape = found.landscape
    assert found.unmatched == ()
    for layer in landscape.layers:
        codes = (landscape.deployed[layer.weight] / layer.step).round().numpy()
        kept = stored[f"{layer.weight}_quantized"].astype(np.float32)
        assert np.array_equal(codes.ravel(), kept.reshape(codes.shape).ravel())
    (x,) = demo.batches("evaluation", 0, 64)[0]
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    expected = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    with torch.no_grad():
        whole = landscape.run(landscape.deployed, (x,), 1.0)[0].numpy()
    # A float kernel may round one activation to the neighbouring code; decisions stay.
    assert (whole.argmax(1) == expected.argmax(1)).mean() >= 0.98


@pytest.mark.parametrize("per_channel", [True, False], ids=["channel", "tensor"])
def test_dynamic_quantization_is_read_back(tmp_path: Path, per_channel: bool) -> None:
    """ConvInteger and MatMulInteger, whose weights' scales stand behind them."""
    generator = np.random.default_rng(0)
    shapes = {"kernel": (8, 3, 3, 3), "W": (8, 5), "b": (8,)}
    weights = {key: generator.normal(0, 0.4, shape).astype(np.float32) for key, shape in shapes.items()}
    nodes = [
        helper.make_node("Conv", ["x", "kernel", "b"], ["maps"], "conv"),
        helper.make_node("Relu", ["maps"], ["positive"], "relu"),
        helper.make_node("GlobalAveragePool", ["positive"], ["pooled"], "pool"),
        helper.make_node("Flatten", ["pooled"], ["features"], "flatten"),
        helper.make_node("MatMul", ["features", "W"], ["y"], "classify"),
    ]
    value = onnx.helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "small", [value("x", onnx.TensorProto.FLOAT, ["n", 3, 6, 6])],
        [value("y", onnx.TensorProto.FLOAT, ["n", 5])],
        [numpy_helper.from_array(array, key) for key, array in weights.items()],
    )  # fmt: skip
    source, target = tmp_path / "float.onnx", tmp_path / "dynamic.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), source)
    quantize_dynamic(source, target, per_channel=per_channel, weight_type=QuantType.QInt8)
    found = read_foreign(load_model(source), load_model(target))
    assert found.unmatched == ()
    assert found.bits == Bits(8, 8)
    for layer in found.landscape.layers:
        q, w0 = found.landscape.deployed[layer.weight], found.landscape.origin[layer.weight]
        # Half a step of 127 levels, and a margin for the tool's choice of range.
        assert float((q - w0).abs().max()) < 0.6 * float(layer.step.max())
    x = generator.normal(size=(4, 3, 6, 6)).astype(np.float32)
    session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        whole = found.landscape.run(found.landscape.deployed, (torch.from_numpy(x),), 1.0)[0].numpy()
    # Float kernels between the integer ones sum in another order.
    assert np.allclose(whole, session.run(None, {"x": x})[0], atol=1e-4)


def test_our_own_file_has_the_height_of_its_plan(tmp_path: Path) -> None:
    from edgeq.basin.simulated import landscape_of

    path = tmp_path / "ours.onnx"
    path.write_bytes(export(demo.graph(), demo.plan("w3a8")))
    found = read_foreign(demo.graph(), load_model(path)).landscape
    ours, _ = landscape_of(demo.graph(), demo.plan("w3a8"))
    reference = refer(ours, demo.batches("evaluation", 0, 128))
    a, b = (float(altitude(s, s.deployed, reference, 1.0)[0].mean()) for s in (found, ours))
    assert a == pytest.approx(b, rel=0.02)
    # Codes of 3 bits are recognized in their int8 storage, and the file's number format with them.
    assert {layer.bits for layer in found.layers} == {3}
    assert read_foreign(demo.graph(), load_model(path)).bits == Bits(3, 8)


def test_weights_are_matched_by_direction_where_all_names_were_changed(tmp_path: Path) -> None:
    path = _peers(tmp_path, QuantFormat.QDQ, True)
    model = onnx.load(path)
    names = {name: f"renamed_{i}" for i, name in enumerate({t.name for t in model.graph.initializer})}
    for tensor in model.graph.initializer:
        tensor.name = names[tensor.name]
    for index, node in enumerate(model.graph.node):
        node.name = f"node_{index}"
        node.input[:] = [names.get(value, value) for value in node.input]
    onnx.save(model, path)
    found = read_foreign(demo.graph(), load_model(path))
    assert found.unmatched == ()
    for layer in found.landscape.layers:
        q, w0 = found.landscape.deployed[layer.weight], found.landscape.origin[layer.weight]
        assert float((q - w0).norm() / w0.norm()) < 0.02


def test_a_file_that_is_not_this_models_quantization_is_refused(tmp_path: Path) -> None:
    path = _peers(tmp_path, QuantFormat.QDQ, True)
    model = onnx.load(path)
    generator = np.random.default_rng(0)
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.int8 and array.ndim > 1:
            noise = generator.integers(-127, 128, array.shape).astype(np.int8)
            tensor.CopyFrom(numpy_helper.from_array(noise, tensor.name))
    onnx.save(model, path)
    with pytest.raises(ModelError, match="no quantized weight of the candidate matches"):
        read_foreign(demo.graph(), load_model(path))


def test_the_float_model_itself_is_no_candidate() -> None:
    with pytest.raises(ModelError, match="no quantized weight"):
        read_foreign(demo.graph(), demo.graph())


def test_a_file_exported_for_a_fixed_number_of_samples_is_run_in_such_parts(tmp_path: Path) -> None:
    """An exporter that traces with 32 samples writes Reshape to [32, ...]; other batches are filled up to 32."""
    path = tmp_path / "free.onnx"
    path.write_bytes(export(demo.graph(), demo.plan("w3a8")))
    free = read_foreign(demo.graph(), load_model(path)).landscape
    model = onnx.load(path)
    classes = len(np.unique(demo.samples("evaluation")[1]))
    model.graph.initializer.append(numpy_helper.from_array(np.array([32, classes], np.int64), "traced"))
    last = next(node for node in model.graph.node if model.graph.output[0].name in node.output)
    last.output[0] = "before"
    model.graph.node.append(helper.make_node("Reshape", ["before", "traced"], [model.graph.output[0].name]))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 32
    onnx.save(model, tmp_path / "fixed.onnx")
    fixed = read_foreign(demo.graph(), load_model(tmp_path / "fixed.onnx")).landscape
    for size in (7, 32, 40):
        (inputs,) = demo.batches("evaluation", 0, size, size)
        with torch.no_grad():
            a, b = (land.run(land.deployed, inputs, 1.0)[0] for land in (free, fixed))
        # Other batch sizes may sum in another order.
        assert torch.allclose(a, b, atol=1e-4)


def test_weights_rescaled_across_layers_are_brought_back(tmp_path: Path) -> None:
    """Cross-layer equalization of two consecutive convolutions, then onnxruntime's quantization of the result."""
    source, path = tmp_path / "float.onnx", tmp_path / "equalized.onnx"
    source.write_bytes(export(demo.graph(), None))
    model = onnx.load(source)
    tensors = {t.name: t for t in model.graph.initializer}
    convolutions = [n for n in model.graph.node if n.op_type == "Conv"]
    following = next(
        b for a, b in itertools.pairwise(convolutions)
        if numpy_helper.to_array(tensors[b.input[1]]).shape[1] == numpy_helper.to_array(tensors[a.input[1]]).shape[0]
    )  # fmt: skip
    first = convolutions[convolutions.index(following) - 1]
    before, after = (numpy_helper.to_array(tensors[n.input[1]]) for n in (first, following))
    factors = np.exp(np.random.default_rng(0).normal(0, 0.8, len(before))).astype(np.float32)
    changed = {
        first.input[1]: before * factors[:, None, None, None],
        first.input[2]: numpy_helper.to_array(tensors[first.input[2]]) * factors,
        following.input[1]: after / factors[None, :, None, None],
    }
    for name, array in changed.items():
        tensors[name].CopyFrom(numpy_helper.from_array(array.astype(np.float32), name))
    onnx.save(model, path)
    quantize_static(path, tmp_path / "q.onnx", _Reader(model.graph.input[0].name), per_channel=True)
    found = read_foreign(demo.graph(), load_model(tmp_path / "q.onnx"))
    assert found.unmatched == ()
    assert len(found.rescaled) == 2
    for layer in found.landscape.layers:
        q, w0 = found.landscape.deployed[layer.weight], found.landscape.origin[layer.weight]
        assert float((q - w0).norm() / w0.norm()) < 0.05
        codes = q / layer.step
        # Divided weights still lie on their own grid.
        assert float((codes - codes.round()).abs().max()) < 0.02
    # What is left of the file's altitude is the activations' share: the weights alone hardly climb.
    reference = refer(found.landscape, demo.batches("evaluation", 0, 64))
    weights_alone = altitude(found.landscape, found.landscape.deployed, reference, 0.0)[0].mean()
    assert float(weights_alone) < 0.02


def test_coarse_rounding_is_not_explained_away_as_a_rescaling() -> None:
    generator = np.random.default_rng(0)
    weight = generator.normal(size=(16, 8, 3, 3)).astype(np.float32)
    for levels in (1, 3, 7):
        scale = np.abs(weight).max((1, 2, 3), keepdims=True) / levels
        assert rescaling((np.rint(weight / scale) * scale).astype(np.float32), weight) is None
    # Others of the same shape are not this layer's, however they are scaled.
    assert rescaling(generator.normal(size=weight.shape).astype(np.float32), weight) is None
    depthwise = generator.normal(size=(16, 1, 3, 3)).astype(np.float32)
    assert rescaling(generator.normal(size=depthwise.shape).astype(np.float32), depthwise) is None
    known = generator.uniform(0.2, 5, 16).astype(np.float32)
    found = rescaling(depthwise * known[:, None, None, None], depthwise)
    assert found is not None
    assert np.allclose(found.factor[:, 0, 0, 0], known, rtol=1e-5)


@pytest.mark.parametrize("levels", [1, 3, 7, 127])
def test_a_grid_tells_rounding_from_rescaling_even_at_three_bits(levels: int) -> None:
    generator = np.random.default_rng(levels)
    weight = generator.normal(size=(32, 16, 3, 3)).astype(np.float32)

    def rounded(w: np.ndarray, error: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        scale = np.abs(w).max((1, 2, 3), keepdims=True) / levels
        moved = w / scale + generator.normal(0, error, w.shape)
        return (np.clip(np.rint(moved), -levels, levels) * scale).astype(np.float32), scale.astype(np.float32)

    nearest, scale = rounded(weight)
    assert rescaling(nearest, weight, scale) is None
    # Better rounding leaves codes that are not the nearest: no rescaling either.
    better, scale = rounded(weight, 0.3)
    assert rescaling(better, weight, scale) is None
    if levels == 1:  # two bits keep too little of a rescaled weight to be sure
        return
    a, c = (np.exp(generator.normal(0, 0.5, n)).astype(np.float32) for n in (32, 16))
    factor = a[:, None, None, None] * c[None, :, None, None]
    equalized, scale = rounded(weight * factor)
    found = rescaling(equalized, weight, scale)
    assert found is not None
    # The fit of 144 codes for each input channel is near, and its common factor is free to lie in either diagonal.
    assert np.abs(np.log(found.factor / factor)).mean() < (0.2 if levels == 3 else 0.1)
    assert np.square(equalized / found.factor - weight).sum() < np.square(equalized - weight).sum()


def test_a_slice_that_points_nowhere_keeps_its_size() -> None:
    """A nearly dead channel, of which a tool kept next to nothing: no small factor may blow the rest up."""
    generator = np.random.default_rng(0)
    weight = generator.normal(size=(32, 16, 3, 3)).astype(np.float32)
    weight[:, 3] *= 1e-2
    seen = weight * np.exp(generator.normal(0, 0.5, 16)).astype(np.float32)[None, :, None, None]
    noise = generator.normal(size=weight[:, 3].shape).astype(np.float32)
    noise -= weight[:, 3] * (noise * weight[:, 3]).sum() / np.square(weight[:, 3]).sum()
    seen[:, 3] = 1e-5 * (noise + weight[:, 3])
    found = rescaling(seen, weight)
    assert found is not None
    undone = seen / found.factor
    assert np.linalg.norm(undone[:, 3]) < 2 * np.linalg.norm(weight[:, 3])
    rest = np.arange(16) != 3
    assert np.allclose(undone[:, rest], weight[:, rest], rtol=1e-3)
