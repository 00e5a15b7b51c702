"""How the agent is started: on this machine, in an environment of its own, emulated, over ssh, over adb."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from edgeq.devices.profile import Profile, TransportOptions
from edgeq.devices.transports.adb import Adb
from edgeq.devices.transports.emulated import CannotCountError, Emulated
from edgeq.devices.transports.environment import Environment
from edgeq.devices.transports.local import Local
from edgeq.devices.transports.ssh import Ssh
from edgeq.devices.transports.transport import Transport

__all__ = ["Adb", "CannotCountError", "Emulated", "Environment", "Local", "Ssh", "Transport", "make_transport"]


def _local(options: TransportOptions) -> Local:
    store = Path(options.store).expanduser() if options.store else None
    return Local((options.python or sys.executable,), options.memory_limit_bytes, store)


def _environment(options: TransportOptions) -> Environment:
    return Environment(options.requirements, options.python or sys.executable, _local(options))


def _emulated(options: TransportOptions) -> Emulated:
    return Emulated(options.architecture, options.cpu, options.requirements)


def _ssh(options: TransportOptions) -> Ssh:
    given = {key: value for key in ("python", "store") if (value := getattr(options, key))}
    return Ssh(options.host, options.port, options.options, **given)


def _adb(options: TransportOptions) -> Adb:
    given = {key: value for key in ("python", "store") if (value := getattr(options, key))}
    return Adb(options.serial, **given)


_KINDS: Mapping[str, Callable[[TransportOptions], Transport]] = {
    "local": _local,
    "environment": _environment,
    "emulated": _emulated,
    "ssh": _ssh,
    "adb": _adb,
}


def make_transport(profile: Profile) -> Transport:
    """The transport that the profile asks for."""
    return _KINDS[profile.transport.kind](profile.transport)
