"""A PyTorch model: a ``.pt2`` file of torch.export, or ``package.module:factory`` with weights; exported as ONNX."""

import contextlib
import importlib
import io
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from torch import nn

from edgeq.errors import ModelError, UsageError, first_line

_OPSET = 20


def read_exported_program(path: Path) -> ir.Model:
    """Read a ``.pt2`` file of ``torch.export.save``.

    Raises:
        ModelError: the file is missing, damaged, or does not export to ONNX.
    """
    if not path.is_file():
        raise ModelError(f"model {path}: no such file")
    try:
        with _quiet():
            program = torch.export.load(path)
    except Exception as error:  # torch raises many kinds for a damaged archive
        raise ModelError(f"model {path}: not a readable torch.export file ({first_line(error)})") from error
    return _export(program, (), None, str(path))


def build_from_factory(
    spec: str, weights: Path | None, example: Sequence[torch.Tensor], dynamic_batch: bool = True
) -> ir.Model:
    """Call ``package.module:factory``, load its weights, and export it with the example inputs.

    Raises:
        UsageError: the specification is not of that form.
        ModelError: the module cannot be imported, the factory raises or returns something else, the weights do not
            fit, or the module does not export.
    """
    module = call_factory(spec)
    if weights is not None:
        load_weights(module, weights)
    return export_module(module, example, spec, dynamic_batch)


def export_module(
    module: nn.Module, example: Sequence[torch.Tensor], label: str, dynamic_batch: bool = True
) -> ir.Model:
    """Export an ``nn.Module`` in evaluation mode; the first dimension of every input is the batch."""
    shapes = tuple({0: torch.export.Dim.DYNAMIC} if t.ndim else None for t in example) if dynamic_batch else None
    was_training = module.training
    try:
        model = _export(module.eval(), tuple(example), shapes, label)
    finally:
        module.train(was_training)
    _name_batch(model)
    return model


def _name_batch(model: ir.Model) -> None:
    """Call the exporter's symbol of the batch (s77) by its name."""
    first = [value.shape[0] for value in model.graph.inputs if value.shape is not None and len(value.shape)]
    symbols = {dim.value for dim in first if isinstance(dim, ir.SymbolicDim)}
    values = [*model.graph.inputs, *(output for node in model.graph for output in node.outputs)]
    for value in values:
        if value.shape is not None:
            dims = ["batch" if isinstance(d, ir.SymbolicDim) and d.value in symbols else d for d in value.shape]
            value.shape = ir.Shape(dims)


def call_factory(spec: str) -> nn.Module:
    """The module that ``package.module:factory`` returns; the current folder is importable."""
    module_name, _, attribute = spec.partition(":")
    if not module_name or not attribute:
        raise UsageError(f"model {spec!r}: write package.module:factory")
    try:
        with _importable_here():
            factory: Any = importlib.import_module(module_name)
            for part in attribute.split("."):
                factory = getattr(factory, part)
    except (ImportError, AttributeError) as error:
        raise ModelError(f"model {spec}: {first_line(error)}; is it on PYTHONPATH or in this folder?") from error
    except Exception as error:  # the user's own code
        raise ModelError(f"model {spec}: importing it raised {type(error).__name__}: {first_line(error)}") from error
    try:
        module = factory()
    except Exception as error:  # the user's own code
        raise ModelError(f"model {spec}: the factory raised {type(error).__name__}: {first_line(error)}") from error
    if not isinstance(module, nn.Module):
        raise ModelError(f"model {spec}: the factory returned {type(module).__name__}, not a torch.nn.Module")
    return module


def load_weights(module: nn.Module, path: Path) -> None:
    """Load a state dict from ``.safetensors`` or ``.pt`` (tensors only: a file with any other object is refused)."""
    if not path.is_file():
        raise ModelError(f"weights {path}: no such file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # UnpicklingError, RuntimeError, SafetensorError ...: all mean the same to the user
        raise ModelError(
            f"weights {path}: not a plain state dict of tensors ({type(error).__name__}); "
            "save it with torch.save(model.state_dict(), ...) or as safetensors"
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ModelError(f"weights {path}: the file does not hold a state dict (names to tensors)")
    state = {key.removeprefix("module."): value for key, value in state.items()}
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        detail = "; ".join(line.strip() for line in str(error).splitlines()[1:3])
        raise ModelError(f"weights {path}: they do not fit the model: {detail[:300]}") from error


def _export(program: Any, example: tuple[torch.Tensor, ...], shapes: Any, label: str) -> ir.Model:
    try:
        with _quiet():
            exported = torch.onnx.export(
                program,
                example,
                dynamo=True,
                dynamic_shapes=shapes,
                opset_version=_OPSET,
                optimize=False,
                verbose=False,
            )
    except Exception as error:  # the exporter wraps the user's code: anything can come out
        cause = error.__cause__ or error
        raise ModelError(f"model {label}: torch.onnx.export failed: {first_line(cause)}") from error
    assert exported is not None
    model: ir.Model = exported.model
    return model


@contextlib.contextmanager
def _importable_here() -> Iterator[None]:
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        yield
    finally:
        if added:
            sys.path.remove(here)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # The exporter prints its progress and warns about its own internals; neither is the user's business.
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
