"""The plan applied to the graph: a differentiable ``torch.nn.Module`` that computes on fake-quantized values.

Its forward is that of the ONNX file with QuantizeLinear/DequantizeLinear pairs, run without a runtime's optimizer. It
can be trained with any loss and optimizer; :meth:`Simulation.plan` gives the plan of where it stands, for exporters.
What a runtime's integer kernels make of the same plan, to the last bit, is :class:`edgeq.simulate.IntegerSimulation`.
"""

import operator
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import fx, nn

from edgeq.graph.execute import to_torch
from edgeq.graph.graph import Graph
from edgeq.plan.plan import Plan, Unit
from edgeq.plan.quantization import Quantization, QuantizedConstant, quantized_bias
from edgeq.simulate.fake_quantize import ActivationQuantizer, BiasQuantizer, WeightQuantizer


class Simulation(nn.Module):
    """The quantized model. Inputs and outputs are real tensors, as of :func:`edgeq.graph.execute.to_torch`.

    Attributes:
        activations: quantizers by the index of their group, in the order of ``groups``.
        groups: representative values of the groups.
        weights: weight's value name -> its quantizer.
        biases: unit name -> its bias.
    """

    def __init__(self, graph: Graph, plan: Plan) -> None:
        super().__init__()
        self.graph, self._plan = graph, plan
        module = to_torch(graph)
        self.groups = tuple(dict.fromkeys(plan.skeleton.groups[value] for value in plan.activations))
        self._activations = nn.ModuleList(ActivationQuantizer(plan.activations[group]) for group in self.groups)
        self._weights = nn.ModuleList()
        self._biases = nn.ModuleList()
        self.weights: Mapping[str, WeightQuantizer] = self._build_weights(plan)
        self.biases: Mapping[str, BiasQuantizer | nn.Parameter] = {}
        _Rewriter(self, module, plan).rewrite()
        self.module = module

    def _build_weights(self, plan: Plan) -> dict[str, WeightQuantizer]:
        built = {}
        for value, constant in plan.weights.items():
            array = self.graph.constant(value)
            assert array is not None
            built[value] = WeightQuantizer(constant, torch.from_numpy(np.array(array, np.float32)))
            self._weights.append(built[value])
        return built

    def activation(self, value: str) -> ActivationQuantizer:
        """The quantizer of a value's group."""
        quantizer = self._activations[self.groups.index(self._plan.skeleton.groups[value])]
        assert isinstance(quantizer, ActivationQuantizer)
        return quantizer

    def activations(self) -> Iterator[tuple[str, ActivationQuantizer]]:
        """(group, quantizer) of every group."""
        for group, quantizer in zip(self.groups, self._activations, strict=True):
            assert isinstance(quantizer, ActivationQuantizer)
            yield group, quantizer

    def enable(self, *, weights: bool = True, activations: bool = True) -> "Simulation":
        """Turn the quantization of weights and of activations on or off, to tell their shares apart."""
        for weight in self.weights.values():
            weight.enabled = weights
        for _, quantizer in self.activations():
            quantizer.enabled = activations
        return self

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Run the quantized model."""
        result: torch.Tensor | tuple[torch.Tensor, ...] = self.module(*inputs)
        return result

    def plan(self, method: str | None = None) -> Plan:
        """The plan of where the simulation stands: its scales, codes and biases."""
        grids = {group: quantizer.quantization() for group, quantizer in self.activations()}
        activations = {value: grids[self._plan.skeleton.groups[value]] for value in self._plan.activations}
        weights = {
            value: QuantizedConstant(quantizer.plan_codes().cpu().numpy().astype(np.int64), quantizer.quantization())
            for value, quantizer in self.weights.items()
        }
        biases = {
            unit.name: self._bias(unit, activations[unit.inputs[0]], weights[unit.weight])
            for unit in self._plan.units
            if unit.name in self._plan.biases and unit.weight is not None
        }
        return replace(
            self._plan,
            activations=activations,
            weights=weights,
            biases=biases,
            method=self._plan.method if method is None else method,
        )

    def _bias(self, unit: Unit, grid: Quantization, weight: QuantizedConstant) -> QuantizedConstant:
        bias = self.biases[unit.name]
        assert isinstance(bias, BiasQuantizer)
        return quantized_bias(bias.latent.detach().cpu().numpy(), grid, weight.quantization)


class _Rewriter:
    """Insert the quantizers into the float module, unit by unit."""

    def __init__(self, simulation: Simulation, module: fx.GraphModule, plan: Plan) -> None:
        self.simulation, self.module, self.plan = simulation, module, plan
        self.fx_graph = module.graph
        self.by_value: dict[str, fx.Node] = {}
        for node in self.fx_graph.nodes:
            if "value" in node.meta:
                self.by_value[node.meta["value"]] = node
        self.calls = {
            n.meta["onnx"]: n for n in self.fx_graph.nodes if "onnx" in n.meta and n.target is not operator.getitem
        }

    def rewrite(self) -> None:
        for unit in self.plan.units:
            if unit.weight is not None and unit.weight in self.plan.weights:
                self._quantize_weight(unit)
            if unit.integer:
                self._quantize_constants(unit)
        self._quantize_activations()
        self.fx_graph.lint()
        self.module.delete_all_unused_submodules()
        self.fx_graph.eliminate_dead_code()
        self.module.recompile()

    def _quantize_weight(self, unit: Unit) -> None:
        assert unit.weight is not None
        call = self.calls[unit.name]
        weight = self.simulation.weights[unit.weight]
        position = list(self.simulation.weights).index(unit.weight)
        node = self._module_call(call, f"weight_{position}", weight)
        call.args = (call.args[0], node, *call.args[2:])
        if unit.integer:
            self._quantize_bias(unit, call, weight)

    def _quantize_bias(self, unit: Unit, call: fx.Node, weight: WeightQuantizer) -> None:
        constant = self.plan.biases[unit.name]
        original = self.simulation.graph.constant(unit.bias) if unit.bias is not None else None
        real = torch.from_numpy(constant.real)
        if original is not None:
            exact = torch.from_numpy(np.array(original, np.float32).reshape(-1))
            scale = torch.from_numpy(constant.quantization.scale)
            # Keep the float bias as the latent one where it rounds to the plan's codes.
            real = torch.where(torch.round(exact / scale) == torch.round(real / scale), exact, real)
        bias = BiasQuantizer(real, self.simulation.activation(unit.inputs[0]), weight)
        self.simulation.biases[unit.name] = bias  # type: ignore[index]
        self.simulation._biases.append(bias)
        node = self._module_call(call, f"bias_{len(self.simulation.biases)}", bias)
        if unit.op != "MatMul":
            call.args = (*call.args[:2], node)
            return
        if unit.bias is not None:
            adder = self.calls[unit.nodes[1]]
            adder.args = (call, node) if adder.args[0] is call else (node, call)
            return
        with self.fx_graph.inserting_after(call):
            added = self.fx_graph.call_function(operator.add, (call, node))
        call.replace_all_uses_with(added, delete_user_cb=lambda user: user is not added)
        added.meta = dict(call.meta)
        self.by_value[unit.outputs[0]] = added

    def _quantize_constants(self, unit: Unit) -> None:
        call = self.calls[unit.name]
        for value in unit.inputs:
            if value not in self.plan.constants:
                continue
            attribute = f"quantized_constant_{len(list(self.module.buffers()))}"
            self.module.register_buffer(attribute, torch.from_numpy(self.plan.constants[value].real))
            with self.fx_graph.inserting_before(call):
                node = self.fx_graph.get_attr(attribute)
            call.replace_input_with(self.by_value[value], node)

    def _quantize_activations(self) -> None:
        makers = {value: unit for unit in self.plan.units for value in unit.outputs}
        readers: dict[str, set[str]] = {}
        for unit in self.plan.units:
            for value in unit.inputs if unit.integer else ():
                readers.setdefault(value, set()).add(unit.name)
        for value in self.plan.activations:
            source = self.by_value[value]
            made_by_integer = value in makers and makers[value].integer
            quantizer = self.simulation.activation(value)
            with self.fx_graph.inserting_after(source):
                name = f"activation_{self.simulation.groups.index(self.plan.skeleton.groups[value])}"
                if not hasattr(self.module, name):
                    self.module.add_submodule(name, quantizer)
                quantized = self.fx_graph.call_module(name, (source,))
            allowed = readers.get(value, set())

            def reads_codes(
                user: fx.Node, new: fx.Node = quantized, all_: bool = made_by_integer, ok: set[str] = allowed
            ) -> bool:
                return user is not new and (all_ or user.meta.get("onnx") in ok)

            source.replace_all_uses_with(quantized, delete_user_cb=reads_codes)
            quantized.meta = {"value": value}
            source.meta = {k: v for k, v in source.meta.items() if k != "value"} | {"unquantized": value}

    def _module_call(self, before: fx.Node, name: str, module: nn.Module) -> fx.Node:
        name = next((n for n, m in self.module.named_children() if m is module), name)
        if not hasattr(self.module, name):
            self.module.add_submodule(name, module)
        with self.fx_graph.inserting_before(before):
            return self.fx_graph.call_module(name, ())
