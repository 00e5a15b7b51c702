"""The files: the integer model in each format that the devices take, its float counterpart, and their audits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgeq.devices import Profile
from edgeq.devices.artifact import Artifact
from edgeq.errors import DeviceError, EdgeqError, TooLargeError
from edgeq.exporters import onnx as onnx_format
from edgeq.exporters import tflite as tflite_format
from edgeq.exporters.audit import Audit
from edgeq.pipeline.inputs import Model
from edgeq.pipeline.onnx_artifact import onnx_artifact
from edgeq.pipeline.options import Options
from edgeq.plan.bits import Bits
from edgeq.plan.plan import Plan


@dataclass(frozen=True, eq=False)
class File:
    """One integer file and the float file it is compared with.

    Attributes:
        name: in the release folder.
        format: onnx or tflite.
        integer: the integer file.
        floating: the float model in the same format.
        audit: of the integer file.
        layouts: input or output name -> how the graph's axes are permuted in the file; empty if they are not.
        notes: what the reader of the report should know of it.
    """

    name: str
    format: str
    integer: Artifact
    floating: Artifact
    audit: Audit
    layouts: dict[str, tuple[int, ...]]
    notes: tuple[str, ...] = ()

    @property
    def parts(self) -> dict[str, bytes | Path]:
        """What of it belongs into the release folder: its bytes, and where the files of its constants lie."""
        return {self.name: self.integer.data} | {name: self.integer.path(name) for name in self.integer.beside}

    @property
    def sha256(self) -> Mapping[str, str]:
        """Of each of its parts."""
        return {self.name: self.integer.data_sha256} | dict(self.integer.beside_sha256)


@dataclass(frozen=True, eq=False)
class Files:
    """All files of a release.

    Attributes:
        written: the files.
        failures: format -> why there is no such file.
    """

    written: tuple[File, ...]
    failures: Mapping[str, str] = field(default_factory=dict)

    def of(self, profile: Profile) -> File:
        """The file that a device runs.

        Raises:
            DeviceError: there is none, because it would be too large.
        """
        matching = [file for file in self.written if file.format == profile.artifact]
        if not matching:
            raise DeviceError(f"{profile.name} has nothing to run: {self.failures[profile.artifact]}")
        wanted = file_name(profile.artifact, profile.activations)
        return next((file for file in matching if file.name == wanted), matching[0])

    @property
    def notes(self) -> tuple[str, ...]:
        """One sentence for each format that could not be written."""
        return tuple(f"no {kind} file: {reason}" for kind, reason in self.failures.items())


def write_files(
    options: Options, model: Model, plan: Plan, profiles: tuple[Profile, ...], folder: Path | None = None
) -> Files:
    """All files of the release; a format that no device needs may fail.

    Args:
        options: of the run.
        model: the model.
        plan: its quantization.
        profiles: the devices.
        folder: where files lie whose constants are too large for one file; None refuses such models.

    Raises:
        EdgeqError: a format that a device needs cannot be written. Where the model is too large for it, only if no
            other format that a device needs is left.
    """
    needed = {profile.artifact for profile in profiles}
    files: list[File] = []
    failures: dict[str, str] = {}
    too_large: TooLargeError | None = None
    for kind in ("onnx", "tflite"):
        try:
            if kind == "onnx":
                files += _onnx(options, model, plan, profiles, folder)
            else:
                files += _tflite(options, model, plan, profiles)
        except TooLargeError as error:
            failures[kind] = str(error)
            too_large = error if kind in needed else too_large
        except EdgeqError as error:
            if kind in needed:
                raise
            failures[kind] = str(error)
    if too_large is not None and not needed & {file.format for file in files}:
        raise too_large
    return Files(tuple(files), failures)


def file_name(kind: str, activations: str) -> str:
    """The name of a file in the release folder: ONNX with int8 activations is a second file beside the uint8 one."""
    return "model-int8.onnx" if kind == "onnx" and activations == "int8" else f"model.{kind}"


def _onnx(options: Options, model: Model, plan: Plan, profiles: tuple[Profile, ...], folder: Path | None) -> list[File]:
    kinds = {profile.activations for profile in profiles if profile.artifact == "onnx"} or {"uint8"}
    files = []
    layout: onnx_format.Layout = "NHWC" if options.input_layout == "nhwc" else "NCHW"
    layouts = onnx_format.image_inputs(model.graph) if layout == "NHWC" else {}
    floating = model.floating
    if layouts:
        place = None if folder is None else folder / "float-channels-last.onnx"
        floating = onnx_artifact(model.graph, None, place, layout=layout)
    for activations in sorted(kinds, reverse=True):
        signedness: onnx_format.Signedness = "int8" if activations == "int8" else "uint8"
        file = file_name("onnx", activations)
        place = None if folder is None else folder / file
        integer = onnx_artifact(model.graph, plan, place, activations=signedness, layout=layout)
        audit = onnx_format.audit(integer.data, model.graph, plan, model.shapes, integer.folder)
        files.append(File(file, "onnx", integer, floating, audit, layouts, onnx_format.notes(plan)))
    return files


def _tflite(options: Options, model: Model, plan: Plan, profiles: tuple[Profile, ...]) -> list[File]:
    layout: tflite_format.Layout = "NCHW" if options.input_layout == "nchw" else "NHWC"
    hybrid = [{Bits.parse(text) for text in profile.hybrid} for profile in profiles if profile.artifact == "tflite"]
    taken = frozenset.intersection(*map(frozenset, hybrid)) if hybrid else frozenset[Bits]()
    # The larger one first: if it is too large, nothing else needs to be written.
    floating = Artifact(tflite_format.export(model.graph, None, io="float32", layout=layout))
    built = tflite_format.build(model.graph, plan, io=options.io, layout=layout, hybrid=taken)
    audit = tflite_format.audit(built.data, model.graph, plan)
    layouts = {key: tuple(order) for key, order in built.layouts.items() if list(order) != sorted(order)}
    return [File("model.tflite", "tflite", Artifact(built.data), floating, audit, layouts, built.notes)]


__all__ = ["File", "Files", "file_name", "write_files"]
