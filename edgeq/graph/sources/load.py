"""Load any model as a canonical, checked graph."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch

from edgeq.errors import EdgeqError, ModelError, UsageError, first_line
from edgeq.graph.graph import Graph
from edgeq.graph.passes import clean
from edgeq.graph.sources.fix_inputs import fix_inputs
from edgeq.graph.sources.onnx_file import read_onnx
from edgeq.graph.sources.pytorch import build_from_factory, read_exported_program
from edgeq.graph.sources.soundness import check_order


def load_model(
    model: str | Path,
    *,
    weights: Path | None = None,
    example: Sequence[torch.Tensor] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    constants: Mapping[str, float] | None = None,
) -> Graph:
    """Read a model and bring it into canonical form.

    Args:
        model: path of an ``.onnx`` or ``.pt2`` file, or ``package.module:factory``.
        weights: state dict for a factory.
        example: example inputs for a factory.
        shapes: fixed shapes by input name, for inputs with unknown dimensions.
        constants: inputs to replace by a constant, such as a sampling rate that a control flow depends on.

    Raises:
        ModelError: the model cannot be read, holds NaN or infinite weights, or is malformed.
        UsageError: the arguments do not belong together.
    """
    raw = _read(str(model), weights, example)
    check_order(raw, str(model))
    fix_shapes(raw, shapes or {})
    fix_inputs(raw, constants or {})
    try:
        graph = clean(Graph(raw))
    except EdgeqError:
        raise
    except Exception as error:  # a graph that contradicts itself makes the optimizers raise every kind of error
        raise ModelError(
            f"model {model}: its graph contradicts itself ({type(error).__name__}: {first_line(error)}); "
            "onnx.checker.check_model may say where"
        ) from error
    check_inputs(graph)
    check_finite(graph)
    return graph


def check_inputs(graph: Graph) -> None:
    """Raise ModelError if an input is of a type that no sample has, such as text or bfloat16."""
    for value in graph.inputs:
        kind = None if value.dtype in (None, ir.DataType.UNDEFINED) else value.dtype.numpy()
        if value.dtype is not None and (kind is None or kind.kind not in "fiub" or kind.isbuiltin != 1):
            raise ModelError(
                f"input {value.name!r} takes {value.dtype.name}; give it an input of float32 and a Cast behind"
            )


def _read(model: str, weights: Path | None, example: Sequence[torch.Tensor] | None) -> ir.Model:
    suffix = Path(model).suffix.lower()
    if suffix in (".onnx", ".pt2"):
        if weights is not None:
            raise UsageError(f"--weights belongs to a factory (package.module:factory), not to {model}")
        return read_onnx(Path(model)) if suffix == ".onnx" else read_exported_program(Path(model))
    if suffix in (".pt", ".pth", ".safetensors", ".bin", ".pkl"):
        raise UsageError(
            f"model {model}: a weights file alone has no architecture; "
            f"give the factory and the weights: package.module:factory --weights {model}"
        )
    if suffix == ".tflite":
        raise UsageError(
            f"model {model}: a TFLite file is what edgeq writes; give the ONNX or PyTorch model that it was made of "
            "(`edgeq inspect` and `edgeq profile` read it)"
        )
    if ":" not in model:
        raise UsageError(f"model {model}: expected a .onnx or .pt2 file, or package.module:factory")
    if example is None:
        raise UsageError(f"model {model}: a factory needs --input-shape, for example --input-shape 1,3,224,224")
    return build_from_factory(model, weights, example)


def fix_shapes(model: ir.Model, shapes: Mapping[str, Sequence[int]]) -> None:
    """Give inputs the shapes that the user fixed; a symbol takes the same value everywhere among the inputs.

    Raises:
        UsageError: there is no such input, or the rank or a known dimension differs.
    """
    by_name = {value.name: value for value in model.graph.inputs if value.name not in model.graph.initializers}
    symbols: dict[str, int] = {}
    for input_name, dims in shapes.items():
        if input_name not in by_name:
            raise UsageError(f"--shape {input_name}: the model's inputs are {', '.join(map(str, by_name))}")
        value = by_name[input_name]
        declared = list(value.shape) if value.shape is not None else [None] * len(dims)
        if len(declared) != len(dims) or any(
            isinstance(d, int) and d != n for d, n in zip(declared, dims, strict=True)
        ):
            raise UsageError(f"--shape {input_name}={','.join(map(str, dims))}: the model declares {value.shape}")
        for old, new in zip(declared, dims, strict=True):
            if isinstance(old, ir.SymbolicDim) and old.value is not None:
                symbols[old.value] = new
        value.shape = ir.Shape(dims)
    for value in by_name.values():
        if symbols and value.shape is not None:
            value.shape = ir.Shape(
                [symbols.get(d.value, d) if isinstance(d, ir.SymbolicDim) and d.value else d for d in value.shape]
            )


def check_finite(graph: Graph) -> None:
    """Raise ModelError if a weight of the model is NaN or infinite.

    Infinite constants that are not parameters of a layer are legal: attention masks hold -inf.
    """
    for node in graph.nodes:
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN"):
            continue
        for value in node.inputs[1:]:
            array = graph.constant(value)
            if array is not None and array.dtype.kind == "f" and not np.isfinite(array).all():
                bad = int((~np.isfinite(array)).sum())
                raise ModelError(
                    f"weight {value.name!r} of node {node.name!r} holds {bad} NaN or infinite values; "  # type: ignore[union-attr]
                    "the model was not trained or saved correctly"
                )
