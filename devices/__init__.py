"""Axis 3, where models run: profiles, transports, the agent, latency, parity.

    profile = load_profile("cpu-litert")              # or the path of a TOML file; list_profiles() names those shipped
    with open_device(profile) as device:
        device.info                                    # DeviceInfo: runtime, version, CPU, features, memory
        handle = device.load(path_or_bytes)            # handle.inputs, handle.outputs: Tensor(name, dtype, shape, ...)
        outputs = device.run(handle, {"x": samples})   # all samples; real values, or codes with raw=True
        device.compare_latency(reference, candidate)   # LatencyComparison of two handles
        device.op_profile(handle)                      # where the time goes
    parity(simulated, outputs["logits"], step=scale)   # Parity

Inputs are keyed by the model's input names and come in the file's own layout. What goes wrong with a device is a
DeviceError (exit code 4) with one line; the device can be used again after it.
"""

from edgeq.devices.device import Device
from edgeq.devices.parity import parity
from edgeq.devices.profile import Budgets, Profile, TransportOptions, list_profiles, load_profile
from edgeq.devices.samples import Handle, Tensor
from edgeq.devices.transports import make_transport

__all__ = [
    "Budgets",
    "Device",
    "Handle",
    "Profile",
    "Tensor",
    "TransportOptions",
    "list_profiles",
    "load_profile",
    "open_device",
    "parity",
]


def open_device(profile: Profile) -> Device:
    """The device of a profile, to be used in a ``with`` statement, which starts and ends its agent.

    Raises:
        DeviceError: (on entering) it cannot be reached, or has a runtime that the profile is not for.
    """
    return Device(profile, make_transport(profile))
