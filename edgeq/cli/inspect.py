"""``edgeq inspect``: what a file contains, and how much of it is really integer."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeq.cli.convert import output_options
from edgeq.errors import ModelError, UsageError

if TYPE_CHECKING:
    from edgeq.exporters.inspection import Inspection


@click.command(short_help="What a file contains.")
@click.argument("file", type=click.Path(path_type=Path))
@output_options
def command(file: Path, as_json: bool, quiet: bool, verbose: bool) -> None:
    """Show what FILE (.onnx or .tflite, float or quantized by any tool) contains.

    Ops, multiply-accumulates, parameters, the share of the compute that integer kernels do, and what is left in float
    with the reason; with -v every quantized tensor.
    """
    import json
    from dataclasses import asdict

    found = read(file)
    if as_json:
        content = asdict(found) | {"macs": found.macs, "integer_share": found.integer_share}
        click.echo(json.dumps(content, indent=1))
        return
    show(found, file.name, verbose=verbose)


def read(file: Path) -> "Inspection":
    """Describe a file by its suffix."""
    from edgeq.exporters import onnx as onnx_format
    from edgeq.exporters import tflite as tflite_format
    from edgeq.graph.sources.onnx_file import read_onnx
    from edgeq.graph.sources.soundness import check_order

    suffix = file.suffix.lower()
    if suffix not in (".onnx", ".tflite"):
        raise UsageError(f"{file}: edgeq inspect reads .onnx and .tflite files")
    if not file.is_file():
        raise ModelError(f"{file}: no such file")
    try:
        if suffix == ".tflite":
            return tflite_format.inspect(file.read_bytes())
        check_order(read_onnx(file), str(file))  # refuses what is damaged, or points outside of its folder
        return onnx_format.inspect(file.read_bytes(), file.resolve().parent)
    except ModelError as error:
        raise ModelError(str(error) if str(file) in str(error) else f"{file}: {error}") from error


def show(found: "Inspection", name: str, *, verbose: bool) -> None:
    """Print the description as text."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    kind = "opset" if found.format == "onnx" else "schema"
    console.print(f"[bold]{escape(name)}[/]: {found.format}, {kind} {found.version}, {found.size_bytes:,} bytes")
    for label, values in (("input", found.inputs), ("output", found.outputs)):
        for key, described in values.items():
            console.print(f"{label} {escape(key)}: {escape(described)}")
    console.print("ops: " + escape(", ".join(f"{count} {op}" for op, count in found.ops.items())), soft_wrap=True)
    console.print("constants: " + ", ".join(f"{count:,} {dtype}" for dtype, count in found.parameters.items()))
    console.print(
        f"compute: {found.macs:,} multiply-accumulates, [bold]{found.integer_share:.1%}[/] in integer kernels"
    )
    left = [each for each in found.compute if not each.integer]
    if left:
        table = Table("left in float", "op", "MACs", "why", title_justify="left")
        for each in left if verbose else left[:20]:
            table.add_row(escape(each.name), each.op, f"{each.macs:,}", escape(each.reason))
        console.print(table)
        if len(left) > 20 and not verbose:
            console.print(f"... and {len(left) - 20} more (-v shows all)")
    per_channel = sum(grid.scales > 1 for grid in found.grids)
    console.print(f"quantized tensors: {len(found.grids)}, {per_channel} of them per channel")
    if verbose and found.grids:
        table = Table("tensor", "dtype", "scale", "zero point", "axis")
        for grid in found.grids:
            spread = "" if grid.scales == 1 else f" .. {grid.largest_scale:.3g} ({grid.scales})"
            zero = "" if grid.zero_point is None else str(grid.zero_point)
            axis = "" if grid.axis is None else str(grid.axis)
            table.add_row(escape(grid.tensor), grid.dtype, f"{grid.smallest_scale:.3g}{spread}", zero, axis)
        console.print(table)
