"""Ops make new tensors on their inputs' device: run on fake CUDA tensors, which need no GPU."""

import warnings
from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode

from edgeq.graph.conformance import Case, node_cases
from edgeq.graph.execute import as_tensor, to_torch
from edgeq.graph.graph import Graph
from edgeq.graph.passes.canonicalize import canonicalize
from edgeq.graph.passes.name_everything import name_everything

# What depends on values cannot run on fakes, nor what torch computes only where it is built for CUDA.
_UNKNOWABLE = (DataDependentOutputException, DynamicOutputShapeException)


def _one_case_an_op() -> Iterator[Case]:
    seen = set()
    for case in node_cases():
        arrays = [array for inputs, outputs in case.data[:1] for array in (*inputs, *outputs)]
        plain = all(isinstance(array, np.ndarray) and array.dtype.kind in "biuf" for array in arrays)
        if case.in_scope and plain and case.op not in seen and len(case.model.graph.node) == 1 and case.data[0][0]:
            seen.add(case.op)
            yield case


def _device_of_result(case: Case) -> str:
    module = to_torch(name_everything(canonicalize(Graph(ir.from_proto(case.model)))))
    inputs = [as_tensor(np.asarray(array)) for array in case.data[0][0]]
    with FakeTensorMode():
        fakes = [torch.empty(x.shape, dtype=x.dtype, device="cuda") for x in inputs]
        for name, buffer in list(module.named_buffers()):
            setattr(module, name, torch.empty(buffer.shape, dtype=buffer.dtype, device="cuda"))
        result = module(*fakes)
    return (result[0] if isinstance(result, tuple) else result).device.type


def test_results_are_on_the_device_of_the_inputs() -> None:
    elsewhere, checked = {}, 0
    for case in _one_case_an_op():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                device = _device_of_result(case)
        except _UNKNOWABLE:
            continue
        except RuntimeError as error:
            if "not linked with support" not in str(error):
                elsewhere[case.name] = str(error)
            continue
        checked += 1
        if device != "cuda":
            elsewhere[case.name] = f"the result is on {device}"
    assert not elsewhere
    assert checked > 110
