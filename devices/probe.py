"""A profile from a real device: which runtimes it has, in which versions, on which CPU, and what follows from that."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace

from packaging.version import Version

from edgeq.devices.device import Device
from edgeq.devices.profile import ARTIFACTS, Profile, TransportOptions, load_profile
from edgeq.devices.speed_verdict import DOT_PRODUCTS
from edgeq.devices.transports import make_transport
from edgeq.errors import DeviceError
from edgeq.measurement import DeviceInfo

#: Runtime -> the shipped profile whose formats and op coverage hold for it.
_LIKE = {
    "onnxruntime": "cpu-onnxruntime",
    "litert": "cpu-litert",
    "tflite-runtime": "cpu-tflite-runtime",
    "tflite-micro": "tflite-micro",
}
#: Kernels on x86 -> what the same runtime has on ARM.
_ON_ARM = {"onnxruntime": "onnxruntime-arm", "xnnpack": "xnnpack-arm"}
_ANY_VERSION = ">=0.dev0"


@dataclass(frozen=True)
class Probed:
    """A runtime that answered.

    Attributes:
        profile: for this device.
        info: what the device said of itself.
    """

    profile: Profile
    info: DeviceInfo


def probe(
    name: str, transport: TransportOptions, runtimes: Sequence[str] = ()
) -> tuple[tuple[Probed, ...], tuple[str, ...]]:
    """Ask a device for its runtimes.

    Args:
        name: the beginning of the profiles' names.
        transport: how the device is reached.
        runtimes: which to ask for; all if empty.

    Returns:
        the runtimes that answered, and why the others did not, a line each.

    Raises:
        DeviceError: none answered.
    """
    found, refused = [], []
    for runtime in runtimes or [runtime for runtime in ARTIFACTS if runtime in _LIKE]:
        like = load_profile(_LIKE[runtime])
        asked = replace(like, name=f"{name}-{runtime}", version=_ANY_VERSION, machine="", transport=transport)
        try:
            with Device(asked, make_transport(asked)) as device:
                found.append(Probed(_fitted(asked, device.info), device.info))
        except DeviceError as error:
            refused.append(str(error))
    if not found:
        raise DeviceError(f"no runtime answered on {name}: {'; '.join(refused)}")
    return tuple(found), tuple(refused)


def _fitted(profile: Profile, info: DeviceInfo) -> Profile:
    """The profile narrowed to what the device said."""
    version = Version(info.version)
    limits = f">={version.major}.{version.minor},<{version.major + 1}" if version.major else f">={version.public}"
    config = dict(profile.config)
    arm = info.machine in ("aarch64", "arm64", "armv7l")
    if profile.runtime == "onnxruntime" and not arm and not set(DOT_PRODUCTS) & set(info.cpu_features):
        # Its fast kernel would saturate: see edgeq.devices.hazards.
        config["session.x64quantprecision"] = "1"
    kernels = _ON_ARM.get(profile.kernels, profile.kernels) if arm else profile.kernels
    return replace(
        profile,
        kernels=kernels,
        description=f"{profile.runtime} {info.version} on {info.cpu} ({info.machine})",
        version=limits,
        machine=info.machine if info.machine in ("x86_64", "aarch64", "armv7l", "riscv64") else "",
        activations="uint8" if profile.runtime == "onnxruntime" and not arm else "int8",
        config=config,
    )


def to_toml(profile: Profile, info: DeviceInfo | None = None) -> str:
    """The profile as the text of a file that :func:`edgeq.devices.load_profile` reads back as it was.

    Args:
        profile: to be written.
        info: what the device said of itself, for comments.
    """
    default = Profile(profile.name, "", profile.runtime, profile.version)
    runtime = {"name": profile.runtime, "version": profile.version, "threads": profile.threads}
    for key in ("machine", "affinity", "delegate", "optimization", "arena_bytes", "kernels"):
        if getattr(profile, key) != getattr(default, key):
            runtime[key] = getattr(profile, key)
    lines = [] if info is None else _comments(info)
    lines += [f"name = {_value(profile.name)}", f"description = {_value(profile.description)}"]
    lines += _table("runtime", runtime)
    if profile.config:
        lines += _table("runtime.config", {json.dumps(key): value for key, value in profile.config.items()})
    formats: dict[str, object] = {key: getattr(profile, key) for key in ("activations", "granularity", "bits")}
    for key in ("scales", "zero_points", "hybrid"):
        if getattr(profile, key) != getattr(default, key):
            formats[key] = getattr(profile, key)
    lines += _table("formats", formats)
    ops: dict[str, object] = {f"integer.{bits}": ops for bits, ops in profile.integer_ops.items()}
    ops |= {f"slow.{bits}": ops for bits, ops in profile.slow_ops.items()}
    lines += _table("ops", ops | ({"float": profile.float_ops} if profile.float_ops else {}))
    budgets = {key: value for key, value in asdict(profile.budgets).items() if value is not None}
    lines += _table("budgets", budgets) if budgets else []
    usual = TransportOptions()
    changed = {f.name: getattr(profile.transport, f.name) for f in fields(TransportOptions)}
    kept = {key: value for key, value in changed.items() if key == "kind" or value != getattr(usual, key)}
    return "\n".join([*lines, *_table("transport", kept)]) + "\n"


def _comments(info: DeviceInfo) -> list[str]:
    products = ", ".join(sorted(set(DOT_PRODUCTS) & set(info.cpu_features)))
    return [
        f"# Found on the device: {info.runtime} {info.version}",
        f"# {' '.join(info.cpu.split())} ({info.machine}): {', '.join(info.cpu_features) or 'no features known'}",
        f"# 8-bit dot products: {products or 'none, so that int8 gains little'}",
        f"# {info.memory_bytes / 2**30:.1f} GiB of memory",
        "",
    ]


def _table(name: str, content: Mapping[str, object]) -> list[str]:
    return ["", f"[{name}]", *(f"{key} = {_value(value)}" for key, value in content.items())]


def _value(value: object) -> str:
    # JSON's strings, numbers, booleans and lists of them are TOML's too.
    return json.dumps(list(value) if isinstance(value, tuple) else value)
