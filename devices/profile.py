"""Device profiles: what a device runs, with which runtime, how it is reached, and what it may cost.

A profile is a TOML file; those that come with edgeq are in ``devices/profiles/``. :data:`_TABLES` is the whole schema:
an unknown key is an error that names the nearest right one.
"""

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from edgeq.errors import DeviceError, UsageError
from edgeq.plan.bits import Bits

_FOLDER = Path(__file__).parent / "profiles"

#: Runtime -> the kind of file that it runs.
ARTIFACTS: Mapping[str, str] = {
    "onnxruntime": "onnx",
    "litert": "tflite",
    "tflite-runtime": "tflite",
    "tflite-micro": "tflite",
    "null": "null",
}
_DELEGATES = ("default", "builtin", "reference")
_OPTIMIZATIONS = ("all", "extended", "basic", "none")
_ACTIVATIONS = ("int8", "uint8")
_GRANULARITIES = ("per-channel", "per-tensor")
_SCALES = ("any", "power-of-two")
_ZERO_POINTS = ("any", "zero")
_TRANSPORTS = ("local", "environment", "emulated", "ssh", "adb")
#: How the integer kernels round; the simulation has a mode for each.
KERNELS = (
    *("onnxruntime", "onnxruntime-arm", "xnnpack", "xnnpack-arm"),
    *("ruy", "ruy-gemmlowp", "litert-reference", "gemmlowp", "tflite-micro", "none"),
)


@dataclass(frozen=True)
class Budgets:
    """What a model may cost on the device; None is no limit."""

    size_bytes: int | None = None
    memory_bytes: int | None = None
    latency_ms: float | None = None
    start_up_ms: float | None = None


@dataclass(frozen=True)
class TransportOptions:
    """How the agent is started.

    Attributes:
        kind: local, environment, emulated, ssh or adb.
        timeout_s: longest wait for one answer of the agent.
        retries: how often a broken connection is made anew.
        memory_limit_bytes: address space that the agent may use, 0 for no limit.
        requirements: packages of the managed environment or of the emulated machine, as pip takes them.
        cpu: CPU model of the emulated machine, as qemu names it.
        architecture: of the emulated machine: aarch64 or x86_64.
        host: of ssh, as in the user's ssh configuration: name, or user@name.
        port: of ssh; 0 leaves it to the configuration.
        options: further ``-o`` options of ssh.
        python: the Python on the device.
        store: folder on the device that keeps artefacts between runs; "" for a temporary one.
        serial: of adb.
    """

    kind: str = "local"
    timeout_s: float = 120.0
    retries: int = 2
    memory_limit_bytes: int = 0
    requirements: tuple[str, ...] = ()
    cpu: str = ""
    architecture: str = ""
    host: str = ""
    port: int = 0
    options: tuple[str, ...] = ()
    python: str = ""
    store: str = ""
    serial: str = ""


@dataclass(frozen=True)
class Profile:
    """One device.

    Attributes:
        name: of the device, and of its column in every table.
        description: one line.
        runtime: onnxruntime, litert, tflite-runtime, tflite-micro or null.
        version: which versions of the runtime the profile is true of, as in ``>=2.1,<3``.
        machine: which processors the profile is true of, as in x86_64 or aarch64; "" for all.
        threads: that one inference may use.
        affinity: the cores that it may use, all if empty.
        delegate: of a TFLite interpreter: default (XNNPACK), builtin (none) or reference (the plain kernels).
        optimization: of ONNX Runtime's graph: all, extended, basic or none.
        config: session configuration entries of ONNX Runtime.
        arena_bytes: the tensor arena of TFLite Micro.
        kernels: how the integer kernels round: one of :data:`KERNELS`.
        activations: int8 or uint8: what a quantized ONNX file should use here.
        granularity: of weights: per-channel, or per-tensor where the device knows no other.
        bits: number formats that run, as ``--bits`` takes them; the first is the recommended one.
        scales: any, or power-of-two where the device rescales by shifts.
        zero_points: any, or zero where its kernels know none.
        hybrid: weight-only formats whose codes a TFLite runtime's FULLY_CONNECTED multiplies with real activations,
            which it quantizes on the way; codes of other formats are dequantized in the file.
        integer_ops: format -> ONNX ops that integer kernels run there.
        slow_ops: format -> ONNX ops that run there, but no faster than in float.
        float_ops: ONNX ops that may stay in float without failing the gate.
        budgets: what a model may cost.
        transport: how the device is reached.
    """

    name: str
    description: str
    runtime: str
    version: str
    machine: str = ""
    threads: int = 1
    affinity: tuple[int, ...] = ()
    delegate: str = "default"
    optimization: str = "all"
    config: Mapping[str, str] = field(default_factory=dict)
    arena_bytes: int = 1 << 20
    kernels: str = "none"
    activations: str = "int8"
    granularity: str = "per-channel"
    bits: tuple[str, ...] = ()
    scales: str = "any"
    zero_points: str = "any"
    hybrid: tuple[str, ...] = ()
    integer_ops: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    slow_ops: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    float_ops: tuple[str, ...] = ()
    budgets: Budgets = Budgets()
    transport: TransportOptions = TransportOptions()

    @property
    def artifact(self) -> str:
        """The kind of file that the runtime takes: onnx or tflite."""
        return ARTIFACTS[self.runtime]


_WHOLE = "a whole number"
_NUMBER = "a number"
_TEXT = "a text"
_TEXTS = "a list of texts"
_WHOLES = "a list of whole numbers"
_TEXT_TABLE = "a table of texts"
_TEXTS_TABLE = "a table of lists of texts"

#: Table -> key -> (attribute, kind of value, the values allowed or None). Budgets and transport have their own classes.
_TABLES: Mapping[str, Mapping[str, tuple[str, str, tuple[str, ...] | None]]] = {
    "": {"name": ("name", _TEXT, None), "description": ("description", _TEXT, None)},
    "runtime": {
        "name": ("runtime", _TEXT, tuple(ARTIFACTS)),
        "version": ("version", _TEXT, None),
        "machine": ("machine", _TEXT, ("x86_64", "aarch64", "armv7l", "riscv64")),
        "threads": ("threads", _WHOLE, None),
        "affinity": ("affinity", _WHOLES, None),
        "delegate": ("delegate", _TEXT, _DELEGATES),
        "optimization": ("optimization", _TEXT, _OPTIMIZATIONS),
        "config": ("config", _TEXT_TABLE, None),
        "arena_bytes": ("arena_bytes", _WHOLE, None),
        "kernels": ("kernels", _TEXT, KERNELS),
    },
    "formats": {
        "activations": ("activations", _TEXT, _ACTIVATIONS),
        "granularity": ("granularity", _TEXT, _GRANULARITIES),
        "bits": ("bits", _TEXTS, None),
        "scales": ("scales", _TEXT, _SCALES),
        "zero_points": ("zero_points", _TEXT, _ZERO_POINTS),
        "hybrid": ("hybrid", _TEXTS, None),
    },
    "ops": {
        "integer": ("integer_ops", _TEXTS_TABLE, None),
        "slow": ("slow_ops", _TEXTS_TABLE, None),
        "float": ("float_ops", _TEXTS, None),
    },
    "budgets": {
        "size_bytes": ("size_bytes", _WHOLE, None),
        "memory_bytes": ("memory_bytes", _WHOLE, None),
        "latency_ms": ("latency_ms", _NUMBER, None),
        "start_up_ms": ("start_up_ms", _NUMBER, None),
    },
    "transport": {
        "kind": ("kind", _TEXT, _TRANSPORTS),
        "timeout_s": ("timeout_s", _NUMBER, None),
        "retries": ("retries", _WHOLE, None),
        "memory_limit_bytes": ("memory_limit_bytes", _WHOLE, None),
        "requirements": ("requirements", _TEXTS, None),
        "cpu": ("cpu", _TEXT, None),
        "architecture": ("architecture", _TEXT, ("aarch64", "x86_64")),
        "host": ("host", _TEXT, None),
        "port": ("port", _WHOLE, None),
        "options": ("options", _TEXTS, None),
        "python": ("python", _TEXT, None),
        "store": ("store", _TEXT, None),
        "serial": ("serial", _TEXT, None),
    },
}
_REQUIRED = (("", "name"), ("runtime", "name"), ("runtime", "version"))


def list_profiles() -> tuple[str, ...]:
    """The names of the profiles that come with edgeq, in order."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def load_profile(name_or_path: str | Path) -> Profile:
    """A profile that comes with edgeq, by name, or the user's own file, by path.

    Raises:
        UsageError: there is no such profile, or the file breaks the schema.
    """
    text = str(name_or_path)
    path = Path(text)
    if text in list_profiles():
        path = _FOLDER / f"{text}.toml"
    elif path.suffix != ".toml":
        raise UsageError(f"no device profile {text!r}{_nearest(text, list_profiles())}; see `edgeq devices list`")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"device profile {text}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"device profile {text}: not TOML: {error}") from None
    return profile_from_table(content, path.name)


def profile_from_table(content: Mapping[str, Any], where: str) -> Profile:
    """A profile from the content of its file.

    Args:
        content: the parsed TOML.
        where: the file's name, for messages.

    Raises:
        UsageError: the content breaks the schema.
    """
    tables = {key: value for key, value in content.items() if isinstance(value, Mapping)}
    top = {key: value for key, value in content.items() if key not in tables}
    _reject_unknown(tables, set(_TABLES) - {""}, where, "table")
    _reject_unknown(top, _TABLES[""], where, "key")
    for table, key in _REQUIRED:
        if key not in (tables.get(table, {}) if table else top):
            raise UsageError(f"device profile {where}: {_full(table, key)} is missing")
    read = {table: _read_table(table, tables.get(table, top if not table else {}), where) for table in _TABLES}
    flat = read[""] | read["runtime"] | read["formats"] | read["ops"]
    profile = Profile(
        **({"description": ""} | flat),
        budgets=Budgets(**read["budgets"]),
        transport=TransportOptions(**read["transport"]),
    )
    _check(profile, where)
    return profile


def _read_table(table: str, content: Mapping[str, Any], where: str) -> dict[str, Any]:
    schema = _TABLES[table]
    _reject_unknown(content, schema, where, "key", table)
    result = {}
    for key, value in content.items():
        attribute, kind, allowed = schema[key]
        if not _is(kind, value):
            raise UsageError(f"device profile {where}: {_full(table, key)} = {value!r} should be {kind}")
        if allowed is not None and value not in allowed:
            nearest = _nearest(value, allowed) or f"; one of {', '.join(allowed)}"
            raise UsageError(f"device profile {where}: {_full(table, key)} = {value!r} is unknown{nearest}")
        result[attribute] = _frozen(value)
    return result


def _is(kind: str, value: object) -> bool:
    if kind == _WHOLE:
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if kind == _NUMBER:
        return isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    if kind == _TEXT:
        return isinstance(value, str)
    if kind == _TEXTS:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if kind == _WHOLES:
        return isinstance(value, list) and all(_is(_WHOLE, item) for item in value)
    inner = _TEXT if kind == _TEXT_TABLE else _TEXTS
    return isinstance(value, Mapping) and all(_is(inner, item) for item in value.values())


def _frozen(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, Mapping):
        return {key: _frozen(item) for key, item in value.items()}
    return value


def _check(profile: Profile, where: str) -> None:
    """What single keys cannot say."""
    try:
        SpecifierSet(profile.version)
        for bits in (*profile.bits, *profile.hybrid, *profile.integer_ops, *profile.slow_ops):
            Bits.parse(bits)
    except (InvalidSpecifier, UsageError) as error:
        raise UsageError(f"device profile {where}: {error}") from None
    if profile.threads < 1:
        raise UsageError(f"device profile {where}: [runtime] threads = {profile.threads} should be at least 1")
    if profile.transport.kind == "ssh" and not profile.transport.host:
        raise UsageError(f"device profile {where}: [transport] host is missing: ssh needs to know where to go")
    if profile.transport.host.startswith("-"):
        raise UsageError(f"device profile {where}: [transport] host = {profile.transport.host!r} is no host name")
    if profile.transport.kind == "emulated" and not profile.transport.architecture:
        raise UsageError(f"device profile {where}: [transport] architecture is missing: aarch64 or x86_64")


def check_fits(profile: Profile, version: str, machine: str) -> None:
    """Refuse a device that the profile is not true of.

    Raises:
        DeviceError: its processor is another, or its runtime's version is outside the profile's range.
    """
    if profile.machine and machine != profile.machine:
        raise DeviceError(
            f"{profile.name}: the device is {machine}, but the profile is for {profile.machine}; "
            f"use a profile for {machine} (`edgeq devices list` shows them)"
        )
    if not SpecifierSet(profile.version).contains(version, prereleases=True):
        raise DeviceError(
            f"{profile.name}: the device has {profile.runtime} {version}, but the profile is for {profile.version}; "
            "install that version there, or use a profile for this one (`edgeq devices probe` writes it)"
        )


def _reject_unknown(content: Mapping[str, Any], known: Any, where: str, what: str, table: str = "") -> None:
    for key in content:
        if key not in known:
            raise UsageError(f"device profile {where}: unknown {what} {_full(table, key)}{_nearest(key, known)}")


def _full(table: str, key: str) -> str:
    return f"[{table}] {key}" if table else key


def _nearest(word: str, known: Any) -> str:
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else ""
