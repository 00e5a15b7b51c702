"""The files: the integer model in each format that the devices take, its float counterpart, and their audits."""

import hashlib
from dataclasses import dataclass

from edgeq.devices import Profile
from edgeq.errors import EdgeqError
from edgeq.exporters import onnx as onnx_format
from edgeq.exporters import tflite as tflite_format
from edgeq.exporters.audit import Audit
from edgeq.pipeline.inputs import Model
from edgeq.pipeline.options import Options
from edgeq.plan.plan import Plan


@dataclass(frozen=True, eq=False)
class File:
    """One integer file and the float file it is compared with.

    Attributes:
        name: in the release folder.
        format: onnx or tflite.
        data: the integer file.
        float_data: the float model in the same format.
        audit: of the integer file.
        layouts: input or output name -> how the graph's axes are permuted in the file; empty if they are not.
        notes: what the reader of the report should know of it.
    """

    name: str
    format: str
    data: bytes
    float_data: bytes
    audit: Audit
    layouts: dict[str, tuple[int, ...]]
    notes: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """Of the integer file."""
        return hashlib.sha256(self.data).hexdigest()


def write_files(
    options: Options, model: Model, plan: Plan, profiles: tuple[Profile, ...]
) -> tuple[tuple[File, ...], tuple[str, ...]]:
    """All files of the release, and a note for each format that could not be written and that no device needs.

    Raises:
        EdgeqError: a format that a device needs cannot be written.
    """
    needed = {profile.artifact for profile in profiles}
    files, notes = [], []
    for kind, write in (("onnx", _onnx), ("tflite", _tflite)):
        try:
            files += write(options, model, plan, profiles)
        except EdgeqError as error:
            if kind in needed:
                raise
            notes.append(f"no {kind} file: {error}")
    return tuple(files), tuple(notes)


def file_for(profile: Profile, files: tuple[File, ...]) -> File:
    """The file that a device runs."""
    matching = [file for file in files if file.format == profile.artifact]
    wanted = file_name(profile.artifact, profile.activations) if profile.artifact == "onnx" else "model.tflite"
    return next((file for file in matching if file.name == wanted), matching[0])


def file_name(kind: str, activations: str) -> str:
    """The name of a file in the release folder: ONNX with int8 activations is a second file beside the uint8 one."""
    return "model-int8.onnx" if kind == "onnx" and activations == "int8" else f"model.{kind}"


def _onnx(options: Options, model: Model, plan: Plan, profiles: tuple[Profile, ...]) -> list[File]:
    kinds = {profile.activations for profile in profiles if profile.artifact == "onnx"} or {"uint8"}
    files = []
    layout: onnx_format.Layout = "NHWC" if options.input_layout == "nhwc" else "NCHW"
    layouts = onnx_format.image_inputs(model.graph) if layout == "NHWC" else {}
    float_data = onnx_format.export(model.graph, None, layout=layout) if layouts else model.float_onnx
    for activations in sorted(kinds, reverse=True):
        signedness: onnx_format.Signedness = "int8" if activations == "int8" else "uint8"
        data = onnx_format.export(model.graph, plan, activations=signedness, layout=layout)
        audit = onnx_format.audit(data, model.graph, plan, model.shapes)
        files.append(File(file_name("onnx", activations), "onnx", data, float_data, audit, layouts))
    return files


def _tflite(options: Options, model: Model, plan: Plan, profiles: tuple[Profile, ...]) -> list[File]:
    layout: tflite_format.Layout = "NCHW" if options.input_layout == "nchw" else "NHWC"
    built = tflite_format.build(model.graph, plan, io=options.io, layout=layout)
    float_data = tflite_format.export(model.graph, None, io="float32", layout=layout)
    audit = tflite_format.audit(built.data, model.graph, plan)
    layouts = {key: tuple(order) for key, order in built.layouts.items() if list(order) != sorted(order)}
    return [File("model.tflite", "tflite", built.data, float_data, audit, layouts, built.notes)]


__all__ = ["File", "file_for", "file_name", "write_files"]
