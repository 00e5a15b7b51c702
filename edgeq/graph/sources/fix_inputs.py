"""Turn inputs of a model into constants, so that what depends on them alone folds away."""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from edgeq.errors import UsageError


def fix_inputs(model: ir.Model, values: Mapping[str, float]) -> None:
    """Replace inputs by a constant of their type and shape, filled with one number; a control flow may fold by it.

    Raises:
        UsageError: there is no such input, its shape is not known, or the number does not fit its type.
    """
    by_name = {value.name: value for value in model.graph.inputs if value.name not in model.graph.initializers}
    for input_name, number in values.items():
        if input_name not in by_name:
            raise UsageError(f"--fix {input_name}: the model's inputs are {', '.join(map(str, by_name))}")
        value = by_name[input_name]
        if value.dtype is None or value.shape is None or not value.shape.is_static():
            raise UsageError(f"--fix {input_name}: the shape of that input is not known; fix it with --shape")
        array = np.full(value.shape.numpy(), number).astype(value.dtype.numpy())
        if not np.array_equal(array, np.full(array.shape, number)):
            raise UsageError(f"--fix {input_name}={number}: the input's type {value.dtype.name} cannot hold it")
        model.graph.inputs.remove(value)
        value.const_value = ir.tensor(array, name=value.name)
        model.graph.initializers.add(value)
