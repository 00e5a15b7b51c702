"""Small networks of one op or a few, quantized by their own ranges, and both runtimes to compare with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime
import torch
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from onnx import TensorProto, helper, numpy_helper

from edgeq.calibration.nearest import nearest
from edgeq.calibration.ranges import observe
from edgeq.exporters import onnx as onnx_format
from edgeq.exporters import tflite as tflite_format
from edgeq.exporters.onnx.audit import optimized_graph
from edgeq.graph.execute import to_torch
from edgeq.graph.graph import Graph, name
from edgeq.graph.passes import clean
from edgeq.plan.plan import Plan
from edgeq.plan.quantization import per_tensor
from edgeq.plan.rules import Request, decide
from edgeq.plan.validate import validate
from edgeq.simulate import IntegerSimulation
from edgeq.simulate.kernels import Family

Array = npt.NDArray[Any]


def graph_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int | str]],
    constants: Mapping[str, Array] | None = None,
    outputs: Sequence[str] = ("y",),
    opset: int = 21,
) -> Graph:
    """A canonical graph; the first dimension of every input may be a name."""
    proto = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info(key, TensorProto.FLOAT, shape) for key, shape in inputs.items()],
        [helper.make_tensor_value_info(key, TensorProto.FLOAT, None) for key in outputs],
        [numpy_helper.from_array(np.asarray(array), key) for key, array in (constants or {}).items()],
    )
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return clean(Graph(ir.from_proto(onnx.shape_inference.infer_shapes(model))))


@dataclass(frozen=True, eq=False)
class Network:
    """A quantized network."""

    graph: Graph
    plan: Plan

    @classmethod
    def of(cls, graph: Graph, calibration: Sequence[Array], request: Request | None = None) -> "Network":
        """Quantize by the extremes of these samples, one array for each input."""
        skeleton = decide(graph, request or Request())
        ranges = observe(to_torch(graph), [tuple(torch.from_numpy(a) for a in calibration)], skeleton)
        plan = nearest(graph, skeleton, ranges)
        validate(graph, plan)
        return cls(graph, plan)

    def integer(self, op: str) -> bool:
        return any(unit.op == op and unit.integer for unit in self.plan.units)

    def simulate(self, family: Family, inputs: Sequence[Array]) -> Array:
        """The first output's codes."""
        simulation = IntegerSimulation(self.graph, self.plan, family)
        codes, _ = simulation.run(tuple(torch.from_numpy(array) for array in inputs))
        return codes[name(self.graph.outputs[0])].numpy()

    def onnxruntime(self, inputs: Sequence[Array]) -> Array:
        """The first output's codes, from the QDQ file with all optimizations."""
        data = onnx_format.export(self.graph, self.plan)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        feed = {name(value): array for value, array in zip(self.graph.inputs, inputs, strict=True)}
        output = name(self.graph.outputs[0])
        return self.codes(session.run([output], feed)[0])

    def optimized_ops(self) -> list[str]:
        """What ONNX Runtime makes of the file."""
        return [node.op_type for node in optimized_graph(onnx_format.export(self.graph, self.plan)).graph.node]

    def litert(self, inputs: Sequence[Array], kernels: OpResolverType = OpResolverType.AUTO) -> Array:
        """The first output's codes, sample by sample, from the int8 file with LiteRT's default kernels.

        Samples are quantized as the file asks for it, so that codes beyond a narrow grid come in too.
        """
        built = tflite_format.build(self.graph, self.plan, io="int8")
        interpreter = Interpreter(model_content=built.data, num_threads=1, experimental_op_resolver_type=kernels)
        runner = interpreter.get_signature_runner("serving_default")
        output = name(self.graph.outputs[0])
        asked, given = runner.get_input_details(), runner.get_output_details()[output]
        parts = []
        for index in range(len(inputs[0])):
            feed = {}
            for key, array in zip(map(name, self.graph.inputs), inputs, strict=True):
                scale, zero = asked[key]["quantization"]
                grid = per_tensor(scale, zero, 8 * asked[key]["dtype"]().itemsize)
                codes = grid.quantize(array[index : index + 1]).astype(asked[key]["dtype"])
                feed[key] = np.ascontiguousarray(codes.transpose(built.layouts[key]))
            result = runner(**feed)[output].astype(np.float32)
            parts.append(result.transpose(np.argsort(built.layouts[output])))
        shift = given["quantization"][1] - int(self.plan.activations[output].zero_point)
        return np.concatenate(parts) - np.float32(shift)

    def codes(self, real: Array) -> Array:
        """Codes of the first output's dequantized values; exact, since they lie on the grid."""
        grid = self.plan.activations[name(self.graph.outputs[0])]
        codes = np.rint(real.astype(np.float64) / np.float64(grid.scale)) + int(grid.zero_point)
        return codes.astype(np.float32)
