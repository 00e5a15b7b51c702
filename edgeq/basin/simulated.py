"""A graph and its plan as a landscape: the simulation's module with every weight, bias and grid in our hands.

The float outputs are the graph's, the deployed ones the simulation's. A Softmax at the end is left off: its logits say
the same, and their divergence is finite where a quantized probability is zero.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import fx, nn

from edgeq.basin.landscape import Inputs, Landscape, Layer, Point
from edgeq.errors import PlanError
from edgeq.graph.graph import Graph
from edgeq.graph.ops import OPS
from edgeq.plan.plan import Plan, Unit
from edgeq.simulate import Simulation
from edgeq.simulate.fake_quantize import ActivationQuantizer, BiasQuantizer, WeightQuantizer

_SOFTMAX = {OPS["", op].function for op in ("Softmax", "LogSoftmax")}


class _State:
    """Where the model stands: set before each run."""

    point: Point
    blend: float = 0.0


class _Parameter(nn.Module):
    """Gives a parameter of the point in place of a quantizer."""

    def __init__(self, state: _State, name: str, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.state, self.name, self.shape = state, name, shape

    def forward(self) -> torch.Tensor:
        return self.state.point[self.name].reshape(self.shape)


class _Constant(nn.Module):
    """A constant operand between its real and its quantized value."""

    def __init__(self, state: _State, real: torch.Tensor, quantized: torch.Tensor) -> None:
        super().__init__()
        self.state, self.real, self.quantized = state, real, quantized

    def forward(self) -> torch.Tensor:
        return self.real + self.state.blend * (self.quantized - self.real)


class _Activation(nn.Module):
    """a + blend (Qa(a) - a), with the quantizer's straight-through gradient."""

    def __init__(self, state: _State, quantizer: ActivationQuantizer) -> None:
        super().__init__()
        self.state, self.quantizer = state, quantizer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.state.blend == 0:
            return x
        quantized: torch.Tensor = self.quantizer(x)
        return quantized if self.state.blend == 1 else x + self.state.blend * (quantized - x)


class SimulatedModel:
    """The simulation with its parameters taken from a point; callable as a landscape's ``run``.

    Attributes:
        module: the fx module; its nodes carry ``meta["value"]`` and ``meta["onnx"]``.
        units: the units whose weights are quantized, by weight name, in order.
        layers: their layers.
        origin: the float parameters.
        deployed: the plan's parameters.
    """

    def __init__(self, graph: Graph, plan: Plan) -> None:
        simulation = Simulation(graph, plan)
        self.graph, self.plan = graph, plan
        self.module: fx.GraphModule = simulation.module
        self._state = _State()
        self.units = tuple(unit for unit in plan.units if unit.weight is not None and unit.weight in plan.weights)
        if not self.units:
            raise PlanError("no layer's weights are quantized, so there is no basin to leave; ask for fewer --bits")
        self.origin: dict[str, torch.Tensor] = {}
        self.deployed: dict[str, torch.Tensor] = {}
        self._take_weights(simulation)
        self._take_biases(simulation)
        self._take_activations()
        self._take_constants()
        self._leave_softmax()
        self.module.graph.lint()
        self.module.recompile()
        self.layers = tuple(self._layers())

    def __call__(self, point: Point, inputs: Inputs, blend: float) -> tuple[torch.Tensor, ...]:
        """The outputs at a point."""
        self.stand(point, blend)
        result = self.module(*inputs)
        return result if isinstance(result, tuple) else (result,)

    def stand(self, point: Point, blend: float) -> None:
        """Put the module at a point, for those who run it node by node."""
        self._state.point, self._state.blend = point, blend

    def landscape(self) -> Landscape:
        """The landscape of graph and plan."""
        bits = min((grid.bits for grid in self.plan.activations.values()), default=None)
        return Landscape(self.layers, self.origin, self.deployed, self, bits)

    def _take_weights(self, simulation: Simulation) -> None:
        names = {id(quantizer): name for name, quantizer in simulation.weights.items()}
        for child_name, child in list(self.module.named_children()):
            if isinstance(child, WeightQuantizer):
                name = names[id(child)]
                real = self.graph.constant(name)
                assert real is not None
                self.origin[name] = torch.from_numpy(np.array(real, np.float32))
                self.deployed[name] = torch.from_numpy(self.plan.weights[name].real)
                setattr(self.module, child_name, _Parameter(self._state, name, tuple(real.shape)))

    def _take_biases(self, simulation: Simulation) -> None:
        owners = {id(quantizer): unit for unit, quantizer in simulation.biases.items()}
        for child_name, child in list(self.module.named_children()):
            if isinstance(child, BiasQuantizer):
                unit = next(unit for unit in self.units if unit.name == owners[id(child)])
                quantized = torch.from_numpy(self.plan.biases[unit.name].real)
                original = None if unit.bias is None else self.graph.constant(unit.bias)
                real = torch.zeros_like(quantized) if original is None else _flat(original).expand_as(quantized)
                self._bias(unit, real, quantized)
                setattr(self.module, child_name, _Parameter(self._state, bias_name(unit), tuple(real.shape)))
        for unit in self.units:
            if unit.bias is not None and unit.name not in self.plan.biases:
                self._take_float_bias(unit)

    def _take_float_bias(self, unit: Unit) -> None:
        """The bias of a weight-only unit: the same in both points, but a repair may move it."""
        original = self.graph.constant(unit.bias)
        assert original is not None
        for node in list(self.module.graph.nodes):
            if node.meta.get("onnx") not in unit.nodes:
                continue
            for used in node.all_input_nodes:
                if used.op == "get_attr" and used.meta.get("value") == unit.bias:
                    self._bias(unit, _flat(original), _flat(original))
                    name = f"path_bias_{len(self.origin)}"
                    self.module.add_submodule(name, _Parameter(self._state, bias_name(unit), tuple(original.shape)))
                    with self.module.graph.inserting_before(node):
                        node.replace_input_with(used, self.module.graph.call_module(name, ()))
                    return

    def _bias(self, unit: Unit, real: torch.Tensor, quantized: torch.Tensor) -> None:
        self.origin[bias_name(unit)] = real.clone()
        self.deployed[bias_name(unit)] = quantized.clone()

    def _take_activations(self) -> None:
        for name, child in list(self.module.named_children()):
            if isinstance(child, ActivationQuantizer):
                setattr(self.module, name, _Activation(self._state, child))

    def _take_constants(self) -> None:
        # The simulation registers one buffer for each quantized operand, in the order of the units.
        values = [v for u in self.plan.units if u.integer for v in u.inputs if v in self.plan.constants]
        nodes = [
            n for n in self.module.graph.nodes if n.op == "get_attr" and n.target.startswith("quantized_constant_")
        ]
        nodes.sort(key=lambda node: int(node.target.rsplit("_", 1)[1]))
        for value, node in zip(values, nodes, strict=True):
            real = self.graph.constant(value)
            assert real is not None
            name = f"path_{node.target}"
            quantized = torch.from_numpy(self.plan.constants[value].real)
            self.module.add_submodule(
                name, _Constant(self._state, torch.from_numpy(np.array(real, np.float32)), quantized)
            )
            with self.module.graph.inserting_before(node):
                node.replace_all_uses_with(self.module.graph.call_module(name, ()))

    def _leave_softmax(self) -> None:
        output = next(node for node in self.module.graph.nodes if node.op == "output")
        source = output.args[0]
        while isinstance(source, fx.Node) and source.op == "call_module" and source.args:
            source = source.args[0]
        if isinstance(source, fx.Node) and source.target in _SOFTMAX:
            output.args = (source.args[0],)
            self.module.graph.eliminate_dead_code()

    def _layers(self) -> Iterator[Layer]:
        seen: set[str] = set()
        for unit in self.units:
            assert unit.weight is not None
            if unit.weight in seen:
                continue
            seen.add(unit.weight)
            grid = self.plan.weights[unit.weight].quantization
            scale, _ = grid.broadcast(self.origin[unit.weight].ndim)
            parity = grid.wide_parity(self.origin[unit.weight].ndim)
            half = 2 ** (grid.bits - 1)
            name = unit.module or unit.name
            bias = bias_name(unit)
            yield Layer(
                name=name if name not in seen else unit.name,
                weight=unit.weight,
                bias=bias if bias in self.origin else None,
                step=torch.from_numpy(np.array(scale)) * (1 if parity is None else 2),
                qmin=grid.qmin if parity is None else -half,
                qmax=grid.qmax if parity is None else half - 1,
                bits=grid.bits,
                offset=torch.zeros(()) if parity is None else torch.from_numpy(parity.astype(np.float32)) / 2,
            )
            seen.add(name)


def bias_name(unit: Unit) -> str:
    """The parameter name of a unit's bias."""
    return f"{unit.name}:bias"


def _flat(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> torch.Tensor:
    return torch.from_numpy(np.array(array, np.float32).reshape(-1))


def landscape_of(graph: Graph, plan: Plan) -> tuple[Landscape, SimulatedModel]:
    """The landscape of a graph and its plan, and the model behind it.

    Raises:
        PlanError: the plan quantizes no weights.
    """
    model = SimulatedModel(graph, plan)
    return model.landscape(), model
