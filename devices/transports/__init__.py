"""How the agent is started: on this machine, in an environment of its own, emulated, over ssh, over adb."""

import sys

from edgeq.devices.profile import Profile
from edgeq.devices.transports.local import Local
from edgeq.devices.transports.transport import Transport
from edgeq.errors import DeviceError

__all__ = ["Transport", "make_transport"]


def make_transport(profile: Profile) -> Transport:
    """The transport that the profile asks for."""
    options = profile.transport
    if options.kind == "local":
        return Local((options.python or sys.executable,), options.memory_limit_bytes)
    raise DeviceError(f"{profile.name}: the transport {options.kind!r} is not available")
