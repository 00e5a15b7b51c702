"""Brevitas's own recipes, exported as QCDQ where it can. Methods: nearest, mse, bias, gptq, gptq+mse, gptq+mse+bias.

Settings in its favour: graph quantization after its equalization (20 passes); weights per channel, symmetric, on
+-(2^(b-1)-1); unsigned codes after ReLU; activations at the 99.999 percentile, at 4 bits the 99.9 (the better of its
ranges there); the scale kept as a parameter, without which its GPTQ silently does nothing; a forward pass before
anything else, without which its MSE scales are uninitialized; GPTQ in the layers' own order, activations quantized.
ReLU6 stays one: its recipe makes it a ReLU, with which EfficientNet-Lite0 in float is right in 56.75, not 86.38 %.
Weights alone, and models without 2-D convolutions, with the inputs of their layers, are quantized layer by layer.
"""

import copy
import operator
from pathlib import Path
from typing import Any

import brevitas.graph.quantize_impl as passes
import torch
from brevitas.export import export_onnx_qcdq
from brevitas.graph.calibrate import bias_correction_mode, calibration_mode
from brevitas.graph.gptq import gptq_mode
from brevitas.graph.quantize import layerwise_quantize, preprocess_for_quantize, quantize
from brevitas.nn.quant_layer import QuantNonLinearActLayer
from brevitas.quant_tensor import QuantTensor
from brevitas_examples.imagenet_classification.ptq.ptq_common import create_quant_maps

from peers.contract import Job, Result, run, simulate, tensors, torch_module

EQUALIZATIONS = 20
# What zeros are added to keeps its codes: without this they are quantized a second time, as signed ones.
passes.PRECISION_PRESERVING_MODULES += (torch.nn.ZeroPad2d,)
passes.SIGN_PRESERVING_MODULES += (torch.nn.ZeroPad2d,)


class Clamp6(torch.nn.ReLU):
    """ReLU6 that is no Hardtanh: Brevitas leaves these out, for its quantizer is to clip."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.clamp(0, 6)


def choose(job: Job) -> Result:
    """The QCDQ file, or scores of the module."""
    module = torch_module(job)
    batches = [tensors(batch) for batch in job.batches(32)]
    result = Result()
    with result.clock(), torch.no_grad():
        try:
            quantized = _quantized(copy.deepcopy(module), job)
            _choose(quantized, batches, job.method)
        except RuntimeError as error:
            # The first layer's output at 8 bits cannot be added to one at 4: its scales must be equal.
            if not job.ends or "Scaling factors are different" not in str(error):
                raise
            quantized = _quantized(module, job, outputs=False)
            _choose(quantized, batches, job.method)
            result.note = "first and last layer's outputs not widened: their sums would not have one scale"
    try:
        file = str(Path(job.output) / "model.onnx")
        export_onnx_qcdq(
            quantized, batches[0] if len(batches[0]) > 1 else batches[0][0], file, opset_version=17, dynamo=False
        )
        result.file = file
    except Exception as error:  # whatever the exporter refuses, the reason is shown
        result.note = f"no file: {str(error).splitlines()[0][:80]}"
        result.scores = simulate(job, lambda *x: _plain(quantized(*x)))
    return result


def _choose(quantized: Any, batches: list[tuple[torch.Tensor, ...]], method: str) -> None:
    """Ranges, codes and biases."""
    quantized(*batches[0])
    with calibration_mode(quantized):
        for batch in batches:
            quantized(*batch)
    if "gptq" in method:
        with gptq_mode(quantized, act_order=False, use_quant_activations=True, create_weight_orig=True) as run_gptq:
            for _ in range(run_gptq.num_layers):
                for batch in batches:
                    run_gptq.model(*batch)
                run_gptq.update()
    if "bias" in method:
        with bias_correction_mode(quantized):
            for batch in batches:
                quantized(*batch)


def _plain(scores: Any) -> torch.Tensor:
    return scores.value if isinstance(scores, QuantTensor) else scores


def _quantized(module: torch.nn.Module, job: Job, *, outputs: bool = True) -> Any:
    """The quantized graph, not calibrated yet."""
    layers, alone, activations, identities = create_quant_maps(
        dtype=torch.float32,
        bias_bit_width=32,
        weight_bit_width=job.weights,
        weight_param_method="mse" if "mse" in job.method else "stats",
        weight_scale_type="float_scale",
        weight_quant_type="sym",
        weight_quant_granularity="per_channel",
        weight_narrow_range=True,
        weight_quant_format="int",
        act_quant_format="int",
        act_bit_width=job.activations,
        act_scale_type="float_scale",
        act_scale_computation_type="static",
        act_param_method="stats",
        act_quant_type="sym",
        act_quant_granularity="per_tensor",
        act_quant_percentile=99.9 if job.coarse else 99.999,
    )
    # As its QuantReLU, with the bound at 6 ahead of the quantizer, so that its range lies below.
    bounded = {"act_impl": Clamp6, "passthrough_act": True, "input_quant": None}
    activations[torch.nn.ReLU6] = QuantNonLinearActLayer, activations[torch.nn.ReLU6][1] | bounded
    convolutional = any(isinstance(m, torch.nn.Conv2d) for m in module.modules())
    if convolutional:
        module = preprocess_for_quantize(module, relu6_to_relu=False, equalize_iters=EQUALIZATIONS, merge_bn=True)
    if job.activations is None or not convolutional:
        quantized = layerwise_quantize(module, compute_layer_map=alone)
        if job.ends:
            _widen_alone(quantized)
        return quantized.eval()
    quantized = quantize(module, compute_layer_map=layers, quant_act_map=activations, quant_identity_map=identities)
    _index_plainly(quantized)
    if job.ends:
        _widen(quantized, outputs=outputs)
    return quantized.eval()


def _index_plainly(quantized: Any) -> None:
    """Its tensors are tuples, so ``x[:, :, ::2, ::2]`` fails on them: index the values instead, which loses nothing."""
    for node in quantized.graph.nodes:
        if node.op == "call_function" and node.target is operator.getitem:
            with quantized.graph.inserting_before(node):
                node.replace_input_with(node.args[0], quantized.graph.call_function(_plain, (node.args[0],)))
    quantized.recompile()


def _widen_alone(quantized: Any) -> None:
    """First and last layer at 8 bits, their inputs too."""
    layers = [m for m in quantized.modules() if hasattr(m, "weight_quant")]
    for layer in (layers[0], layers[-1]):
        for proxy in (layer.weight_quant, layer.input_quant):
            if proxy.is_quant_enabled:
                proxy.quant_injector = proxy.quant_injector.let(bit_width=8)
                proxy.init_tensor_quant()


def _widen(quantized: Any, *, outputs: bool) -> None:
    """First and last layer at 8 bits, their inputs too, and their outputs."""
    modules = dict(quantized.named_modules(remove_duplicate=False))
    nodes = [n for n in quantized.graph.nodes if n.op == "call_module"]
    layers = [n for n in nodes if hasattr(modules[n.target], "weight_quant")]
    for node in (layers[0], layers[-1]):
        proxies = [modules[node.target].weight_quant]
        for direction in ("all_input_nodes", "users") if outputs else ("all_input_nodes",):
            near = _quantizer(node, modules, direction)
            proxies += [modules[near.target].act_quant] if near is not None else []
        for proxy in proxies:
            proxy.quant_injector = proxy.quant_injector.let(bit_width=8)
            proxy.init_tensor_quant()


def _quantizer(node: Any, modules: dict[str, Any], direction: str) -> Any:
    """The nearest quantizer of activations before or after a layer, through pooling and reshaping."""
    near = next(iter(getattr(node, direction)), None)
    while near is not None and not hasattr(modules.get(str(near.target)), "act_quant"):
        near = next(iter(getattr(near, direction)), None)
    return near


if __name__ == "__main__":
    run(choose)
