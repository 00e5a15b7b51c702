"""The agent on another processor, emulated by qemu's user mode: other kernels, the same files.

aarch64: a root folder with Debian's arm64 Python (apt-get with a private arm64 configuration, dpkg -x: no root rights,
no change of the system) and the runtime's aarch64 wheels. x86_64: this machine's own Python under another CPU model, to
see what a CPU without VNNI computes. Timings mean nothing here.

The runtimes choose kernels, and cpuinfo even aborts, by /proc/cpuinfo; so qemu is shown one that fits its CPU model.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeq.devices.transports.cache import made_once, step
from edgeq.devices.transports.transport import AGENT
from edgeq.errors import DeviceError, UsageError

_ARM = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
_ARM82 = f"{_ARM} atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp ssbs"
_SSE = "fpu tsc cx8 cmov mmx fxsr sse sse2 pni ssse3 cx16 sse4_1 sse4_2 movbe popcnt aes"

#: Architecture -> CPU model of qemu -> (name in /proc/cpuinfo or CPU part, features).
CPUS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "aarch64": {
        "cortex-a53": ("0xd03", _ARM),
        "cortex-a72": ("0xd08", _ARM),
        "cortex-a76": ("0xd0b", _ARM82),
    },
    "x86_64": {
        "Denverton": ("Denverton (emulated)", _SSE),
        "Haswell": ("Haswell (emulated)", f"{_SSE} avx f16c fma avx2 bmi1 bmi2"),
    },
}
_DEBIAN = ("python3", "libstdc++6", "libgomp1")
_WHEELS = ("2_34", "2_31", "2_28", "2_27", "2_26", "2_17")
_NEED_QEMU = "install qemu's user mode, on Debian `apt-get install qemu-user-static`"
_NEED_PLUGINS = "on Debian `apt-get install qemu-user gcc libc6-dev`"
_PLUGIN = Path(__file__).with_name("instruction_count.c")
#: The number of the system call that marks where an inference begins and ends (getppid).
_MARK: Mapping[str, int] = {"aarch64": 173, "x86_64": 110}
#: From this version of qemu on its plugins have the second interface.
_SECOND_INTERFACE = 9


class CannotCountError(DeviceError):
    """Instructions cannot be counted here; the emulated device itself may be well."""


@dataclass(frozen=True)
class Emulated:
    """Runs the agent under qemu.

    Attributes:
        architecture: aarch64 or x86_64.
        cpu: one of :data:`CPUS` of that architecture.
        requirements: the packages of the emulated machine (aarch64 only).
        agent: the agent's file.
        count_into: the file into which qemu is to write how many instructions were executed, at each mark of the agent.
    """

    architecture: str
    cpu: str
    requirements: tuple[str, ...] = ()
    agent: Path = AGENT
    count_into: Path | None = None

    def command(self, runtime: str) -> Sequence[str]:
        """qemu with the CPU model, its root folder, a Python, and the agent."""
        known = CPUS[self.architecture]
        if self.cpu not in known:
            raise UsageError(f"[transport] cpu = {self.cpu!r} is unknown; for {self.architecture}: {', '.join(known)}")
        root = self._root()
        python = sys.executable if self.architecture == "x86_64" else str(root / "usr" / "bin" / "python3")
        qemu = (self.emulator(),) if self.count_into is None else self._counting_emulator(self.count_into)
        return (*qemu, "-L", str(root), "-cpu", self.cpu, python, "-I", str(self.agent), runtime)

    def emulator(self) -> str:
        """The path of qemu.

        Raises:
            DeviceError: there is none.
        """
        for name in (f"qemu-{self.architecture}-static", f"qemu-{self.architecture}"):
            if found := shutil.which(name):
                return found
        raise DeviceError(f"no emulator for {self.architecture} here: {_NEED_QEMU}")

    def _counting_emulator(self, into: Path) -> tuple[str, ...]:
        """qemu with the plugin that counts instructions; only a dynamically linked qemu takes plugins."""
        qemu, compiler = shutil.which(f"qemu-{self.architecture}"), shutil.which("cc")
        if qemu is None:
            raise CannotCountError(f"no qemu-{self.architecture} here, which counts instructions: {_NEED_PLUGINS}")
        if compiler is None:
            raise CannotCountError(f"no C compiler here, which the counting of instructions needs: {_NEED_PLUGINS}")
        version = subprocess.run((qemu, "--version"), capture_output=True, text=True, check=False, timeout=60).stdout
        major = re.search(r"version (\d+)", version)
        interface = 2 if major and int(major[1]) >= _SECOND_INTERFACE else 1

        def compile_plugin(folder: Path) -> None:
            flags = ("-shared", "-fPIC", "-O2", f"-DAPI_VERSION={interface}", "-o", str(folder / "plugin.so"))
            command = (compiler, *flags, str(_PLUGIN))
            try:
                step("compile the instruction counter", command, advice=_NEED_PLUGINS)
            except DeviceError as error:
                raise CannotCountError(str(error)) from None

        folder = made_once("instruction-count", (_PLUGIN.read_text(), str(interface)), compile_plugin)
        return (qemu, "-plugin", f"{folder / 'plugin.so'},mark={_MARK[self.architecture]},into={into}")

    def _root(self) -> Path:
        """The folder that qemu looks into before the real root: the CPU's own /proc, and the system by links."""
        system = self._system() if self.architecture == "aarch64" else None
        return made_once("root", (self._cpuinfo(), str(system)), lambda folder: self._make_root(folder, system))

    def _make_root(self, folder: Path, system: Path | None) -> None:
        (folder / "proc").mkdir()
        (folder / "proc" / "cpuinfo").write_text(self._cpuinfo())
        for part in system.iterdir() if system else ():
            if part.is_dir():
                (folder / part.name).symlink_to(part)

    def _cpuinfo(self) -> str:
        name, features = CPUS[self.architecture][self.cpu]
        if self.architecture == "x86_64":
            return (
                f"processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: {name}\ncpu MHz\t\t: 1000\n"
                f"cpu cores\t: 1\nflags\t\t: {features}\n\n"
            )
        return (
            f"processor\t: 0\nBogoMIPS\t: 100.00\nFeatures\t: {features}\nCPU implementer\t: 0x41\n"
            f"CPU architecture: 8\nCPU variant\t: 0x1\nCPU part\t: {name}\nCPU revision\t: 0\n\n"
        )

    def _system(self) -> Path:
        self.emulator()
        return made_once("arm64", (*_DEBIAN, *self.requirements), self._make_system)

    def _make_system(self, folder: Path) -> None:
        apt = folder / "apt"
        for part in ("lists/partial", "archives/partial"):
            (apt / part).mkdir(parents=True)
        (apt / "status").touch()
        settings = {
            "APT::Architecture": "arm64",
            "APT::Architectures": "arm64",
            "APT::Sandbox::User": "",
            "Dir::State::Lists": apt / "lists",
            "Dir::State::status": apt / "status",
            "Dir::Cache": apt,
            "Dir::Cache::Archives": apt / "archives",
            "Debug::NoLocking": "1",
        }
        get = ("apt-get", "--quiet", *(f"-o{key}={value}" for key, value in settings.items()))
        advice = "the emulated machine is made of Debian's packages and needs apt-get and the network"
        step("read Debian's arm64 package lists", (*get, "update"), advice=advice)
        download = ("install", "--download-only", "--yes", "--no-install-recommends", *_DEBIAN)
        step("download Debian's arm64 Python", (*get, *download), advice=advice)
        for package in sorted((apt / "archives").glob("*.deb")):
            step(f"unpack {package.name}", ("dpkg", "-x", str(package), str(folder)), advice=advice)
        shutil.rmtree(apt)
        self._install_wheels(folder)

    def _install_wheels(self, folder: Path) -> None:
        version = (folder / "usr" / "bin" / "python3").readlink().name.removeprefix("python")
        platforms = [f"--platform=manylinux_{tag}_aarch64" for tag in _WHEELS]
        step(
            f"install {' '.join(self.requirements)} for aarch64",
            (
                *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
                *(*platforms, "--platform=manylinux2014_aarch64", "--implementation=cp", f"--python-version={version}"),
                *("--only-binary=:all:", f"--target={folder / 'usr' / 'lib' / 'python3' / 'dist-packages'}"),
                *self.requirements,
            ),
            advice="check the network and that the packages have aarch64 wheels",
        )

    def preamble(self) -> bytes:
        """Nothing: the emulated process sees this machine's files."""
        return b""

    def sees_files(self) -> bool:
        """Yes."""
        return True

    def lost(self, code: int) -> bool:
        """Never: there is no connection but the pipe."""
        return False
