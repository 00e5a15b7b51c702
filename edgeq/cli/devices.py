"""``edgeq devices``: list, show, check and probe device profiles."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from edgeq.errors import DeviceError, ExitCode, OutputError


@click.group(short_help="Device profiles.")
def command() -> None:
    """List, show, check and probe device profiles."""


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def list_command(as_json: bool) -> None:
    """The profiles that come with edgeq."""
    from edgeq.devices import list_profiles, load_profile

    profiles = [load_profile(name) for name in list_profiles()]
    if as_json:
        click.echo(json.dumps([{"name": p.name, "runtime": p.runtime, "description": p.description} for p in profiles]))
        return
    width = max(len(profile.name) for profile in profiles)
    for profile in profiles:
        click.echo(f"{profile.name:<{width}}  {profile.description}")


@command.command("show")
@click.argument("device")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def show_command(device: str, as_json: bool) -> None:
    """A profile in full; redirect it to a .toml file to make your own of it."""
    from edgeq.devices import load_profile
    from edgeq.devices.probe import to_toml

    profile = load_profile(device)
    click.echo(json.dumps(asdict(profile), indent=2) if as_json else to_toml(profile), nl=as_json)


@command.command("check")
@click.argument("devices", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def check_command(devices: tuple[str, ...], as_json: bool) -> int:
    """Whether DEVICES can be reached, and which runtime and CPU they have."""
    from edgeq.devices import load_profile, open_device

    found: dict[str, dict[str, object]] = {}
    for name in devices:
        try:
            with open_device(load_profile(name)) as device:
                found[name] = {"reachable": True, **asdict(device.info)}
        except DeviceError as error:
            found[name] = {"reachable": False, "reason": str(error)}
    if as_json:
        click.echo(json.dumps(found, indent=2))
    for name, facts in found.items() if not as_json else ():
        if facts["reachable"]:
            features = ", ".join(str(feature) for feature in facts["cpu_features"])  # type: ignore[attr-defined]
            memory = int(str(facts["memory_bytes"])) / 2**30
            what = f"{facts['runtime']} {facts['version']} on {facts['cpu']} ({facts['machine']})"
            click.echo(f"{name}: {what}, {features}, {memory:.1f} GiB")
        else:
            click.echo(str(facts["reason"]), err=True)
    return int(ExitCode.PASSED if all(facts["reachable"] for facts in found.values()) else ExitCode.DEVICE)


@command.command("probe")
@click.option("--ssh", "host", help="Reach the device by ssh: a name of your ssh configuration, or user@host.")
@click.option("--adb", "serial", help="Reach the device by adb: its serial number.")
@click.option("--port", default=0, help="Of ssh; default: as your ssh configuration says.")
@click.option("--ssh-option", multiple=True, metavar="KEY=VALUE", help="An -o option of ssh; may be repeated.")
@click.option("--python", default="", help="The Python on the device that has NumPy and the runtime.")
@click.option("--runtime", "runtimes", multiple=True, help="Ask for this runtime alone; may be repeated.")
@click.option("--name", default="", help="Beginning of the profiles' names; default: the host.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path(), help="Folder to write the profiles to."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def probe_command(
    host: str | None,
    serial: str | None,
    port: int,
    ssh_option: tuple[str, ...],
    python: str,
    runtimes: tuple[str, ...],
    name: str,
    output: Path,
    as_json: bool,
) -> None:
    """Ask a device what it has, and write a profile of each runtime; without --ssh or --adb it is this machine."""
    from edgeq.devices import TransportOptions
    from edgeq.devices.probe import probe, to_toml

    kind = "ssh" if host else "adb" if serial else "local"
    transport = TransportOptions(
        kind, host=host or "", port=port, options=ssh_option, python=python, serial=serial or ""
    )
    found, refused = probe(name or (host or serial or "here").rpartition("@")[2], transport, runtimes)
    written = {}
    for probed in found:
        file = output / f"{probed.profile.name}.toml"
        try:
            output.mkdir(parents=True, exist_ok=True)
            file.write_text(to_toml(probed.profile, probed.info), encoding="utf-8")
        except OSError as error:
            raise OutputError(f"cannot write {file}: {error.strerror}") from None
        written[str(file)] = asdict(probed.info)
        if not as_json:
            click.echo(f"{file}: {probed.profile.description}")
    if as_json:
        click.echo(json.dumps({"profiles": written, "refused": list(refused)}, indent=2))
    for line in refused if not as_json else ():
        click.echo(f"not there: {line}", err=True)
