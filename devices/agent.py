"""The agent: runs artefacts on the device, told what to do by frames on its standard input.

One file on purpose: it is copied (or piped) to the device and needs only the standard library, NumPy and the runtime.
Python 3.8 and later. It is started as ``python -I agent.py RUNTIME [--store DIR] [--memory-limit BYTES]``.

A frame is ``b"EDGQ"``, the header's length and CRC-32 (two little-endian uint32), the header (a JSON object), and the
bytes of the arrays that its "arrays" lists as [name, dtype, shape, crc32]. A request has a "command"; the reply
has its results, or "error": {"kind", "message"}. Standard output belongs to the frames alone: whatever the runtime
prints goes to standard error.
"""

# ruff: noqa: UP006, UP031, UP035, UP045, D102
# Python 3.8 has neither list[str] nor X | None at run time; the methods of a runtime are told once, above them.

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import struct
import sys
import tempfile
import time
import zlib
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Callable, ClassVar, Dict, Iterator, List, Optional, Tuple

import numpy as np

#: Both sides must agree on this number; it grows with every change of a frame or a command.
PROTOCOL = 3

MAGIC = b"EDGQ"
_PREFIX = struct.Struct("<4sII")
_LARGEST_HEADER = 1 << 24

_CONSTANTS_FOLDER = "session.model_external_initializers_file_folder_path"

Arrays = Dict[str, Any]
Read = Callable[[int], bytes]

#: The CPU features that decide which integer kernels a runtime takes.
_FEATURES = (
    "sse4_1", "avx", "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx_vnni", "amx_int8",
    "neon", "asimd", "asimdhp", "asimddp", "i8mm", "sve", "sve2",
)  # fmt: skip


class FrameError(Exception):
    """The bytes are not a frame, or a checksum does not fit."""


class AgentError(Exception):
    """A request that cannot be served; its kind is for the client to decide on."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


# ---- frames


def write_frame(stream: BinaryIO, header: Dict[str, Any], arrays: Optional[Arrays] = None) -> None:
    """Write one frame."""
    payloads = []
    described = []
    for name, value in (arrays or {}).items():
        array = np.asarray(value, order="C")
        payload = array.tobytes()
        described.append([name, array.dtype.str, list(array.shape), zlib.crc32(payload)])
        payloads.append(payload)
    text = json.dumps(dict(header, arrays=described)).encode()
    stream.write(_PREFIX.pack(MAGIC, len(text), zlib.crc32(text)) + text)
    for payload in payloads:
        stream.write(payload)
    stream.flush()


def read_frame(read: Read) -> Tuple[Dict[str, Any], Arrays]:
    """Read one frame.

    Args:
        read: returns exactly as many bytes as it is asked for, or raises EOFError.

    Raises:
        FrameError: the magic bytes, a length or a checksum is wrong.
    """
    magic, length, checksum = _PREFIX.unpack(read(_PREFIX.size))
    if magic != MAGIC or length > _LARGEST_HEADER:
        raise FrameError("not a frame: %r" % magic)
    text = read(length)
    if zlib.crc32(text) != checksum:
        raise FrameError("the header's checksum is wrong")
    header = json.loads(text)
    arrays = {}
    for name, dtype, shape, checksum in header.pop("arrays"):
        kind = np.dtype(dtype)
        size = kind.itemsize
        for extent in shape:
            size *= extent
        payload = read(size)
        if zlib.crc32(payload) != checksum:
            raise FrameError("the checksum of array %r is wrong" % name)
        arrays[name] = np.frombuffer(payload, kind).reshape(shape)
    return header, arrays


# ---- the machine

#: "CPU part" of /proc/cpuinfo, where an ARM machine gives no name.
_ARM_PARTS = {
    "0xd03": "Cortex-A53", "0xd04": "Cortex-A35", "0xd05": "Cortex-A55", "0xd07": "Cortex-A57", "0xd08": "Cortex-A72",
    "0xd09": "Cortex-A73", "0xd0a": "Cortex-A75", "0xd0b": "Cortex-A76", "0xd0c": "Neoverse-N1", "0xd0d": "Cortex-A77",
    "0xd40": "Neoverse-V1", "0xd41": "Cortex-A78", "0xd44": "Cortex-X1", "0xd49": "Neoverse-N2", "0xd4f": "Neoverse-V2",
}  # fmt: skip


def _read_text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _field(text: str, *names: str) -> str:
    for name in names:
        for line in text.splitlines():
            key, _, value = line.partition(":")
            if key.strip() == name and value.strip():
                return value.strip()
    return ""


def cpu_of(cpuinfo: str, meminfo: str) -> Tuple[str, List[str], int]:
    """Name, features and bytes of memory, from the texts of /proc."""
    flags = set(_field(cpuinfo, "flags", "Features").split())
    memory = _field(meminfo, "MemTotal").split()
    part = _field(cpuinfo, "CPU part")
    cpu = _field(cpuinfo, "model name", "Model", "Hardware") or _ARM_PARTS.get(part, part) or "unknown"
    return cpu, [feature for feature in _FEATURES if feature in flags], int(memory[0]) * 1024 if memory else 0


def machine() -> Dict[str, Any]:
    """What the machine is; holds no host name, user name or path."""
    cpu, features, memory = cpu_of(_read_text("/proc/cpuinfo"), _read_text("/proc/meminfo"))
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "cpu": cpu,
        "cpu_features": features,
        "cores": os.cpu_count() or 1,
        "memory_bytes": memory,
    }


def peak_memory() -> int:
    """The most resident memory that this process ever had, in bytes."""
    high = _field(_read_text("/proc/self/status"), "VmHWM").split()
    if high:
        return int(high[0]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if platform.system() == "Darwin" else peak * 1024)


# ---- runtimes: each has version() and load(); a model has inputs, outputs, feed(), invoke() and fetch()


def _describe(name: str, dtype: Any, shape: Any, scale: Any = 0.0, zero_point: Any = 0) -> Dict[str, Any]:
    """A tensor as the client sees it: a dimension of None is free, a scale of 0 means not quantized."""
    extents = [int(d) if isinstance(d, (int, np.integer)) and d >= 0 else None for d in shape]
    return {
        "name": name,
        "dtype": np.dtype(dtype).str,
        "shape": extents,
        "scale": float(scale),
        "zero_point": int(zero_point),
    }


class OnnxModel:
    """A model in ONNX Runtime."""

    _DTYPES: ClassVar[Dict[str, str]] = {"float": "f4", "double": "f8", "float16": "f2", "bool": "?"}

    def __init__(self, runtime: Any, path: str, options: Dict[str, Any]) -> None:
        session_options = runtime.SessionOptions()
        session_options.log_severity_level = 3
        session_options.intra_op_num_threads = options["threads"]
        session_options.inter_op_num_threads = 1
        level = {"all": "ORT_ENABLE_ALL", "extended": "ORT_ENABLE_EXTENDED", "basic": "ORT_ENABLE_BASIC"}
        session_options.graph_optimization_level = getattr(
            runtime.GraphOptimizationLevel, level.get(options["optimization"], "ORT_DISABLE_ALL")
        )
        for key, value in options["config"].items():
            session_options.add_session_config_entry(key, value)
        if options["profile_to"]:
            session_options.enable_profiling = True
            session_options.profile_file_prefix = options["profile_to"]
        source: Any = path
        if options["folder"]:
            # ONNX Runtime looks for constants in a folder other than the model's only if it gets the model's bytes.
            session_options.add_session_config_entry(_CONSTANTS_FOLDER, options["folder"])
            source = Path(path).read_bytes()
        self.session = runtime.InferenceSession(source, session_options, providers=["CPUExecutionProvider"])
        self.inputs = [self._tensor(value) for value in self.session.get_inputs()]
        self.outputs = [self._tensor(value) for value in self.session.get_outputs()]
        self._names = [output["name"] for output in self.outputs]
        self._fed: Arrays = {}
        self._fetched: List[Any] = []

    def _tensor(self, value: Any) -> Dict[str, Any]:
        dtype = value.type[len("tensor(") : -1]
        return _describe(value.name, self._DTYPES.get(dtype, dtype), value.shape or [])

    def feed(self, arrays: Arrays) -> None:
        self._fed = arrays

    def invoke(self) -> None:
        self._fetched = self.session.run(self._names, self._fed)

    def fetch(self) -> Arrays:
        return {name: np.asarray(value) for name, value in zip(self._names, self._fetched)}  # noqa: B905

    def profile(self, runs: int) -> str:
        for _ in range(runs):
            self.invoke()
        path = self.session.end_profiling()
        try:
            return _read_text(path)
        finally:
            Path(path).unlink()


class OnnxRuntime:
    """ONNX Runtime on the CPU."""

    def __init__(self) -> None:
        import onnxruntime

        self.module = onnxruntime

    def version(self) -> str:
        return str(self.module.__version__)

    def load(self, path: str, options: Dict[str, Any]) -> OnnxModel:
        return OnnxModel(self.module, path, options)


class TfliteModel:
    """A model in the Interpreter of LiteRT or of tflite-runtime."""

    _RESOLVERS: ClassVar[Dict[str, str]] = {
        "default": "AUTO",
        "reference": "BUILTIN_REF",
        "builtin": "BUILTIN_WITHOUT_DEFAULT_DELEGATES",
    }

    def __init__(self, module: Any, path: str, options: Dict[str, Any]) -> None:
        resolver = getattr(module.OpResolverType, self._RESOLVERS[options["delegate"]])
        self.interpreter = module.Interpreter(
            model_path=path, num_threads=options["threads"], experimental_op_resolver_type=resolver
        )
        self.interpreter.allocate_tensors()
        self._path = path
        self._profiled = "litert" in module.__name__ and options["delegate"] == "default"
        inputs, outputs = self._named_details()
        self._input_index = {name: int(detail["index"]) for name, detail in inputs.items()}
        self._output_index = {name: int(detail["index"]) for name, detail in outputs.items()}
        self.inputs = [self._tensor(name, detail) for name, detail in inputs.items()]
        self.outputs = [self._tensor(name, detail) for name, detail in outputs.items()]

    def _named_details(self) -> Tuple[Dict[str, Any], Dict[str, Any]]:
        # A signature keeps the model's own names; tensor names may have been decorated by a converter.
        if len(self.interpreter.get_signature_list()) == 1:
            runner = self.interpreter.get_signature_runner()
            return runner.get_input_details(), runner.get_output_details()
        details = self.interpreter.get_input_details(), self.interpreter.get_output_details()
        return {d["name"]: d for d in details[0]}, {d["name"]: d for d in details[1]}

    def _tensor(self, name: str, detail: Dict[str, Any]) -> Dict[str, Any]:
        return _describe(name, detail["dtype"], detail["shape"].tolist(), *detail["quantization"])

    def feed(self, arrays: Arrays) -> None:
        for name, array in arrays.items():
            self.interpreter.set_tensor(self._input_index[name], array)

    def invoke(self) -> None:
        self.interpreter.invoke()

    def fetch(self) -> Arrays:
        return {name: self.interpreter.get_tensor(index) for name, index in self._output_index.items()}

    def profile(self, runs: int) -> str:
        if not self._profiled:
            raise AgentError("request", "only LiteRT with its default delegate gives a profile per op")
        fed = [self.interpreter.get_tensor(detail["index"]) for detail in self.interpreter.get_input_details()]
        return _LiteRtLibrary().profile(self._path, fed, runs)


class _LiteRtLibrary:
    """LiteRT's C library, which alone gives a profile of the ops inside a delegate (the Interpreter gives none)."""

    _CPU = 1
    _WRITE = 1
    _PROFILING = b"enable_profiling = true\n"
    #: Room for a ranked tensor type, whose size the library does not tell: 4 + 4 + 8 * 4 + 8 * 4 bytes in version 2.
    _TENSOR_TYPE_BYTES = 512

    def __init__(self) -> None:
        import ctypes

        import ai_edge_litert

        self.c = ctypes
        path = Path(ai_edge_litert.__file__).parent / "libLiteRt.so"
        try:
            self.library = ctypes.CDLL(str(path))
            self.libc = ctypes.CDLL(None)
        except OSError as error:
            raise AgentError("request", "this LiteRT gives no profile per op: %s" % error) from None
        self.libc.strdup.restype = ctypes.c_void_p
        self.libc.strdup.argtypes = [ctypes.c_char_p]
        # The library keeps the payload; the few bytes are left to the end of the process.
        self.no_op = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda pointer: None)

    def call(self, function: str, *arguments: Any) -> None:
        try:
            status = getattr(self.library, "LiteRt" + function)(*arguments)
        except AttributeError:
            raise AgentError("request", "this LiteRT gives no profile per op: it has no %s" % function) from None
        if status:
            raise AgentError("runtime", "LiteRt%s failed with status %d" % (function, status))

    def made(self, function: str, *arguments: Any) -> Any:
        """The pointer that a function returns through its last argument."""
        pointer = self.c.c_void_p()
        self.call(function, *arguments, self.c.byref(pointer))
        return pointer

    def buffers(self, kind: str, environment: Any, subgraph: Any, compiled: Any) -> Any:
        c = self.c
        count = c.c_size_t()
        self.call("GetNumSubgraph%ss" % kind, subgraph, c.byref(count))
        found = []
        for index in range(count.value):
            tensor = self.made("GetSubgraph" + kind, subgraph, c.c_size_t(index))
            tensor_type = (c.c_char * self._TENSOR_TYPE_BYTES)()
            self.call("GetRankedTensorType", tensor, tensor_type)
            needs = self.made("GetCompiledModel%sBufferRequirements" % kind, compiled, c.c_size_t(0), c.c_size_t(index))
            memory, size = c.c_int(), c.c_size_t()
            self.call("GetTensorBufferRequirementsSupportedTensorBufferType", needs, 0, c.byref(memory))
            self.call("GetTensorBufferRequirementsBufferSize", needs, c.byref(size))
            found.append(self.made("CreateManagedTensorBuffer", environment, memory, tensor_type, size).value)
        return c.c_size_t(len(found)), (c.c_void_p * len(found))(*found)

    def fill(self, buffer: Any, array: Any) -> None:
        """Copy an array into a tensor buffer; without it the indices of a gather would be whatever lay there."""
        payload = array.tobytes()
        memory = self.c.c_void_p()
        self.call("LockTensorBuffer", self.c.c_void_p(buffer), self.c.byref(memory), self._WRITE)
        self.c.memmove(memory, payload, len(payload))
        self.call("UnlockTensorBuffer", self.c.c_void_p(buffer))

    def profile(self, path: str, fed: List[Any], runs: int) -> str:
        """LiteRT's own summary of that many runs on these inputs, in the file's order."""
        c = self.c
        environment = self.made("CreateEnvironment", 0, (c.c_char * 256)())
        model = self.made("CreateModelFromFile", environment, path.encode())
        options = self.made("CreateOptions")
        self.call("SetOptionsHardwareAccelerators", options, self._CPU)
        payload = c.c_void_p(self.libc.strdup(self._PROFILING))
        opaque = self.made("CreateOpaqueOptions", b"runtime_options_string", payload, self.no_op)
        self.call("AddOpaqueOptions", options, opaque)
        compiled = self.made("CreateCompiledModel", environment, model, options)
        subgraph = self.made("GetModelSubgraph", model, c.c_size_t(0))
        tensors = [self.buffers(kind, environment, subgraph, compiled) for kind in ("Input", "Output")]
        for buffer, array in zip(tensors[0][1], fed):  # noqa: B905
            self.fill(buffer, array)
        run = ("RunCompiledModel", compiled, c.c_size_t(0), *tensors[0], *tensors[1])
        profiler = self.made("CompiledModelGetProfiler", compiled)
        for _ in range(3):
            self.call(*run)
        self.call("StartProfiler", profiler)
        for _ in range(runs):
            self.call(*run)
        self.call("StopProfiler", profiler)
        summary = c.c_char_p()
        self.call("GetProfileSummary", profiler, compiled, c.byref(summary))
        return (summary.value or b"").decode(errors="replace")


class Tflite:
    """The TFLite interpreter: of LiteRT, or of tflite-runtime on the boards that still have it."""

    def __init__(self, package: str) -> None:
        import importlib

        self.package = package
        self.module = importlib.import_module(package + ".interpreter")

    def version(self) -> str:
        return _package_version(self.package.replace("_", "-"))

    def load(self, path: str, options: Dict[str, Any]) -> TfliteModel:
        return TfliteModel(self.module, path, options)


class MicroModel:
    """A model in TFLite Micro's interpreter, whose tensors go by position; their names come with the options."""

    def __init__(self, module: Any, path: str, options: Dict[str, Any]) -> None:
        self.interpreter = module.Interpreter.from_file(path, arena_size=options["arena_bytes"])
        names = options["names"]
        details = self.interpreter.get_input_details, self.interpreter.get_output_details
        self.inputs = [self._tensor(name, details[0](index)) for index, name in enumerate(names["inputs"])]
        self.outputs = [self._tensor(name, details[1](index)) for index, name in enumerate(names["outputs"])]
        self.arena_bytes = self._arena_used()

    def _tensor(self, name: str, detail: Dict[str, Any]) -> Dict[str, Any]:
        parameters = detail["quantization_parameters"]
        scales = parameters["scales"] if len(parameters["scales"]) else [0.0]
        zero_points = parameters["zero_points"] if len(parameters["zero_points"]) else [0]
        return _describe(name, detail["dtype"], list(detail["shape"]), scales[0], zero_points[0])

    def _arena_used(self) -> int:
        """What of the tensor arena is used, which the interpreter tells on standard error alone."""
        kept = os.dup(2)
        with tempfile.TemporaryFile() as caught:
            try:
                os.dup2(caught.fileno(), 2)
                self.interpreter.print_allocations()
            finally:
                os.dup2(kept, 2)
                os.close(kept)
            caught.seek(0)
            found = re.search(rb"Arena allocation total (\d+) bytes", caught.read())
        return int(found.group(1)) if found else 0

    def feed(self, arrays: Arrays) -> None:
        for index, tensor in enumerate(self.inputs):
            self.interpreter.set_input(arrays[tensor["name"]], index)

    def invoke(self) -> None:
        self.interpreter.invoke()

    def fetch(self) -> Arrays:
        return {tensor["name"]: self.interpreter.get_output(i) for i, tensor in enumerate(self.outputs)}


class TfliteMicro:
    """TFLite Micro, the interpreter of Cortex-M class devices, on this CPU."""

    def __init__(self) -> None:
        from tflite_micro import runtime

        self.module = runtime

    def version(self) -> str:
        return _package_version("tflite-micro")

    def load(self, path: str, options: Dict[str, Any]) -> MicroModel:
        return MicroModel(self.module, path, options)


class NullModel:
    """A model that is a JSON object {"inputs": [...], "outputs": [...]}: each output is the first input."""

    def __init__(self, path: str) -> None:
        try:
            described = json.loads(_read_text(path))
            self.inputs = [_describe(**tensor) for tensor in described["inputs"]]
            self.outputs = [_describe(**tensor) for tensor in described["outputs"]]
        except (ValueError, KeyError, TypeError) as error:
            raise AgentError("model", "not a null model: %s" % error) from None
        self._fed: Arrays = {}

    def feed(self, arrays: Arrays) -> None:
        self._fed = arrays

    def invoke(self) -> None:
        pass

    def fetch(self) -> Arrays:
        first = self._fed[self.inputs[0]["name"]]
        return {tensor["name"]: first.astype(tensor["dtype"]) for tensor in self.outputs}


class Null:
    """No runtime at all, so that everything but the hardware can be tested without it."""

    def version(self) -> str:
        return "1.0"

    def load(self, path: str, options: Dict[str, Any]) -> NullModel:
        return NullModel(path)


def _package_version(package: str) -> str:
    from importlib import metadata

    return metadata.version(package)


RUNTIMES: Dict[str, Callable[[], Any]] = {
    "onnxruntime": OnnxRuntime,
    "litert": lambda: Tflite("ai_edge_litert"),
    "tflite-runtime": lambda: Tflite("tflite_runtime"),
    "tflite-micro": TfliteMicro,
    "null": Null,
}


# ---- running


def _slices(model: Any, arrays: Arrays) -> Iterator[Tuple[Arrays, Optional[int]]]:
    """The samples in the batches that the model takes, each with how many of its rows count (None: all).

    An input without dimensions goes into every batch as it is. A last batch that is too short for a fixed batch size
    is filled up with its own last sample.
    """
    batched = [t for t in model.inputs if t["shape"]]
    if not batched or len({len(arrays[t["name"]]) for t in batched}) > 1:
        # Nothing to cut, or inputs of unequal lengths: one whole inference, as a recurrent model with its state takes.
        yield arrays, None
        return
    total = len(arrays[batched[0]["name"]])
    size = batched[0]["shape"][0] or total
    for start in range(0, total, size):
        batch = dict(arrays)
        rows = min(size, total - start)
        for tensor in batched:
            part = arrays[tensor["name"]][start : start + rows]
            if rows < size:
                part = np.concatenate([part, np.repeat(part[-1:], size - rows, axis=0)])
            batch[tensor["name"]] = np.ascontiguousarray(part)
        yield batch, rows if rows < size else None


def run_all(model: Any, arrays: Arrays) -> Arrays:
    """The outputs of all samples, joined along their first dimension."""
    parts: Dict[str, List[Any]] = {tensor["name"]: [] for tensor in model.outputs}
    for batch, rows in _slices(model, arrays):
        model.feed(batch)
        model.invoke()
        for name, value in model.fetch().items():
            parts[name].append(np.array(value[:rows] if value.ndim else value[None]))
    return {name: np.concatenate(values) for name, values in parts.items()}


def time_in_turn(models: List[Any], warm_up: int, runs: int) -> Any:
    """Nanoseconds of every single run, int64 (runs, models): the models take turns, A B A B."""
    for _ in range(warm_up):
        for model in models:
            model.invoke()
    taken = np.zeros((runs, len(models)), np.int64)
    clock = time.perf_counter_ns
    for row in range(runs):
        for column, model in enumerate(models):
            start = clock()
            model.invoke()
            taken[row, column] = clock() - start
    return taken


class Agent:
    """Serves one client until it says quit or its pipe ends."""

    def __init__(self, runtime: str, store: Path) -> None:
        start = time.perf_counter_ns()
        self.name = runtime
        self.runtime = RUNTIMES[runtime]()
        self.import_ns = time.perf_counter_ns() - start
        self.store = store
        self.models: Dict[str, Any] = {}

    def serve(self, read: Read, write: Callable[[Dict[str, Any], Optional[Arrays]], None]) -> None:
        while True:
            try:
                header, arrays = read_frame(read)
            except EOFError:
                return
            command = header.pop("command")
            try:
                reply, results = getattr(self, "do_" + command)(arrays, **header)
            except AgentError as error:
                reply, results = {"error": {"kind": error.kind, "message": str(error)}}, None
            except MemoryError:
                reply, results = {"error": {"kind": "memory", "message": "out of memory"}}, None
            except OSError as error:
                reply, results = {"error": {"kind": "system", "message": error.strerror or str(error)}}, None
            except Exception as error:  # the runtime's own errors have no common base
                message = "%s: %s" % (type(error).__name__, error)
                reply, results = {"error": {"kind": "runtime", "message": message}}, None
            write(reply, results)
            if command == "quit":
                return

    def do_hello(self, arrays: Arrays, protocol: int, affinity: List[int]) -> Tuple[Dict[str, Any], Optional[Arrays]]:
        if protocol != PROTOCOL:
            raise AgentError("protocol", "the agent speaks protocol %d, the client %d" % (PROTOCOL, protocol))
        if affinity:
            os.sched_setaffinity(0, affinity)
        return {
            "protocol": PROTOCOL,
            "runtime": self.name,
            "version": self.runtime.version(),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "import_ns": self.import_ns,
            "machine": machine(),
        }, None

    def _path(self, sha256: str) -> Path:
        if len(sha256) != 64 or not all(letter in "0123456789abcdef" for letter in sha256):
            raise AgentError("request", "not a SHA-256: %r" % sha256)
        return self.store / sha256

    def do_begin(self, arrays: Arrays, sha256: str) -> Tuple[Dict[str, Any], Optional[Arrays]]:
        """How much of an artefact is here already; -1 when it is complete."""
        path = self._path(sha256)
        if path.exists():
            return {"received": -1}, None
        part = path.with_suffix(".part")
        return {"received": part.stat().st_size if part.is_file() else 0}, None

    def do_chunk(self, arrays: Arrays, sha256: str, offset: int) -> Tuple[Dict[str, Any], Optional[Arrays]]:
        with self._path(sha256).with_suffix(".part").open("ab") as file:
            here = file.tell()
            if here != offset:
                file.truncate(0)
                raise AgentError("transfer", "a chunk for byte %d, but %d are here" % (offset, here))
            file.write(arrays["chunk"].tobytes())
        return {"received": offset + arrays["chunk"].size}, None

    def do_end(self, arrays: Arrays, sha256: str) -> Tuple[Dict[str, Any], Optional[Arrays]]:
        path = self._path(sha256)
        digest = hashlib.sha256()
        part = path.with_suffix(".part")
        with part.open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
        if digest.hexdigest() != sha256:
            part.unlink()
            raise AgentError("transfer", "the artefact arrived damaged")
        part.replace(path)
        return {}, None

    def _gathered(self, beside: Dict[str, str]) -> str:
        """A folder in which the files that lie beside a model have the names by which it knows them."""
        folder = self.store / ("beside-" + hashlib.sha256(json.dumps(sorted(beside.items())).encode()).hexdigest())
        for name, sha256 in beside.items():
            parts = PurePosixPath(name).parts
            if not parts or ".." in parts or PurePosixPath(name).is_absolute():
                raise AgentError("request", "a file beside the model cannot be called %r" % name)
            target = folder / name
            if target.exists():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(str(self._path(sha256)), str(target))
            except OSError:  # a file system without hard links
                part = target.with_name(target.name + ".part")
                shutil.copyfile(str(self._path(sha256)), str(part))
                part.replace(target)
        return str(folder)

    def do_load(
        self,
        arrays: Arrays,
        handle: str,
        sha256: str,
        options: Dict[str, Any],
        folder: str = "",
        beside: Optional[Dict[str, str]] = None,
    ) -> Tuple[Dict[str, Any], Optional[Arrays]]:
        """Load a complete artefact; of one with files beside it either the folder here, or name -> SHA-256."""
        before = peak_memory()
        start = time.perf_counter_ns()
        options = dict(options, folder=self._gathered(beside) if beside else folder)
        options = dict(options, profile_to=str(self.store / "profile") if options.get("profile") else "")
        model = self.runtime.load(str(self._path(sha256)), options)
        taken = time.perf_counter_ns() - start
        self.models[handle] = model
        return {
            "inputs": model.inputs,
            "outputs": model.outputs,
            "arena_bytes": getattr(model, "arena_bytes", 0),
            "load_ns": taken,
            "memory_before": before,
            "memory_peak": peak_memory(),
        }, None

    def do_run(self, arrays: Arrays, handle: str) -> Tuple[Dict[str, Any], Optional[Arrays]]:
        start = time.perf_counter_ns()
        outputs = run_all(self.models[handle], arrays)
        return {"run_ns": time.perf_counter_ns() - start, "memory_peak": peak_memory()}, outputs

    def do_time(
        self, arrays: Arrays, handles: List[str], warm_up: int, runs: int
    ) -> Tuple[Dict[str, Any], Optional[Arrays]]:
        models = [self.models[handle] for handle in handles]
        for index, model in enumerate(models):
            prefix = "%d/" % index
            model.feed({name[len(prefix) :]: a for name, a in arrays.items() if name.startswith(prefix)})
        return {}, {"nanoseconds": time_in_turn(models, warm_up, runs)}

    def do_count(self, arrays: Arrays, handle: str, warm_up: int, runs: int) -> Tuple[Dict[str, Any], Optional[Arrays]]:
        """Run, with marks for an emulator that counts: two around nothing, then two around each run."""
        model = self.models[handle]
        model.feed(arrays)
        for _ in range(warm_up):
            model.invoke()
        for run in [lambda: None] + [model.invoke] * runs:
            os.getppid()
            run()
            os.getppid()
        return {}, None

    def do_profile(self, arrays: Arrays, handle: str, runs: int) -> Tuple[Dict[str, Any], Optional[Arrays]]:
        model = self.models.pop(handle)
        if not hasattr(model, "profile"):
            raise AgentError("request", "%s has no profile per op" % self.name)
        model.feed(arrays)
        # As an array: the trace of a large model is longer than a header may be.
        return {}, {"profile": np.frombuffer(model.profile(runs).encode(), np.uint8)}

    def do_unload(self, arrays: Arrays, handle: str) -> Tuple[Dict[str, Any], Optional[Arrays]]:
        self.models.pop(handle, None)
        return {}, None

    def do_quit(self, arrays: Arrays) -> Tuple[Dict[str, Any], Optional[Arrays]]:
        return {}, None


def _take_pipes() -> Tuple[BinaryIO, BinaryIO]:
    """The frames' own copies of standard input and output, out of reach of what the runtime prints or reads."""
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return incoming, outgoing


def _exactly(stream: BinaryIO) -> Read:
    def read(size: int) -> bytes:
        data = stream.read(size)
        if len(data) != size:
            raise EOFError
        return data

    return read


def main(arguments: Optional[List[str]] = None) -> int:
    """Serve one client on standard input and output."""
    parser = argparse.ArgumentParser(prog="agent")
    parser.add_argument("runtime", choices=sorted(RUNTIMES))
    parser.add_argument("--store", help="folder that keeps artefacts between runs; a temporary one if not given")
    parser.add_argument("--memory-limit", type=int, default=0, help="bytes of address space, 0 for no limit")
    options = parser.parse_args(arguments)
    incoming, outgoing = _take_pipes()
    if options.memory_limit:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (options.memory_limit, options.memory_limit))
    with contextlib.ExitStack() as stack:
        if options.store:
            store = Path(options.store).expanduser()
            store.mkdir(parents=True, exist_ok=True)
        else:
            store = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgeq-")))
        try:
            agent = Agent(options.runtime, store)
        except Exception as error:
            message = "%s: %s" % (type(error).__name__, error)
            write_frame(outgoing, {"error": {"kind": "import", "message": message}})
            return 3
        write_frame(outgoing, {"ready": PROTOCOL})
        agent.serve(_exactly(incoming), lambda reply, arrays: write_frame(outgoing, reply, arrays))
    return 0


if __name__ == "__main__":
    sys.exit(main())
