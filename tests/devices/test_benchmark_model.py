"""``edgeq profile`` on a phone with ``benchmark_model``: against a stand-in for adb, since no phone is at hand."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from edgeq.devices import Profile, load_profile
from edgeq.devices.benchmark_model import TOOL, Phone, parsed
from edgeq.devices.profiling import profile_artifact
from edgeq.errors import DeviceError

from . import models

#: The lines of the tool that count, as its documentation shows them.
SAID = (
    "INFO: Log parameter values verbosely: [0]\n"
    "INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n"
    "count=38 first={mean} curr=100 min=90 max=300 avg={mean} std=12\n"
    "INFO: Inference timings in us: Init: 2000, First inference: 1500, Warmup (avg): 1100.5, Inference (avg): {mean}\n"
    "INFO: Memory footprint delta from the start of the tool (MB): init=1.5 overall=3.25\n"
)
ADB = """#!/usr/bin/env python3
import json, shutil, sys
from pathlib import Path
here = Path(__file__).parent
arguments = sys.argv[1:]
with (here / "log").open("a") as log:
    log.write(json.dumps(arguments) + "\\n")
assert arguments[:2] == ["-s", "phone"], arguments
verb, *rest = arguments[2:]
if verb == "push":
    shutil.copy(rest[0], here / Path(rest[1]).name)
elif "-x" in rest[0]:
    print("yes" if (here / "tool").exists() else "no")
elif rest[0].startswith("uname"):
    print("aarch64\\nCPU part : 0xd41\\nFeatures : fp asimd asimddp i8mm\\nMemTotal: 8000000 kB")
elif "benchmark_model" in rest[0]:
    size = (here / Path(rest[0].split("--graph=")[1].split()[0]).name).stat().st_size
    said = (here / "said").read_text()
    print(said.replace("{mean}", str(1000 if size % 2 else 400)))
"""


@pytest.fixture
def adb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a program named adb that knows one phone; ``tool`` in it says that benchmark_model is there."""
    folder = tmp_path / "adb"
    folder.mkdir()
    (folder / "adb").write_text(ADB)
    (folder / "adb").chmod(0o755)
    (folder / "said").write_text(SAID)
    (folder / "tool").touch()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


@pytest.fixture
def phone() -> Profile:
    profile = load_profile("android")
    return replace(profile, threads=2, transport=replace(profile.transport, serial="phone"))


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    # The stand-in tells the two apart by whether their sizes are odd.
    paths = tmp_path / "int8.tflite", tmp_path / "float.tflite"
    for path, data, odd in zip(paths, (models.tflite_integer(), models.tflite_float()), (0, 1), strict=True):
        path.write_bytes(data + b"\0" * ((len(data) + odd) % 2))
    return paths


def test_two_files_take_turns(adb: Path, phone: Profile, pair: tuple[Path, Path]) -> None:
    result = profile_artifact(phone, *pair, runs=80)
    assert result.latency is not None
    assert result.comparison is not None
    assert (result.latency.median_ms, result.comparison.reference.median_ms) == (0.4, 1.0)
    assert (result.latency.runs, result.latency.start_up_ms) == (80, 3.5)
    assert result.latency.peak_memory_bytes == round(3.25 * 2**20)
    assert result.comparison.ratio.estimate == 0.4
    assert result.verdict is not None
    assert result.verdict.faster
    assert (result.device.cpu, result.device.machine) == ("Cortex-A78", "aarch64")
    assert result.device.cpu_features == ("asimd", "asimddp", "i8mm")
    ran = [json.loads(line)[-1] for line in (adb / "log").read_text().splitlines() if "--graph" in line]
    assert [command.split("--graph=")[1].split()[0][-8] for command in ran] == ["0", "1"] * 8
    assert all("--num_threads=2 --num_runs=10" in command for command in ran)


def test_the_delegate_and_the_cores_of_the_profile_are_taken(
    adb: Path, phone: Profile, pair: tuple[Path, Path]
) -> None:
    profile_artifact(replace(phone, delegate="builtin", affinity=(4, 5)), pair[0], runs=8)
    ran = [json.loads(line)[-1] for line in (adb / "log").read_text().splitlines() if "--graph" in line]
    assert all(command.startswith(f"taskset 30 {TOOL}") and "--use_xnnpack=false" in command for command in ran)


def test_without_the_tool_the_phones_python_is_taken(adb: Path, phone: Profile, pair: tuple[Path, Path]) -> None:
    (adb / "tool").unlink()
    # The stand-in has no Python: the agent's start fails, which is what shows that it was asked for.
    with pytest.raises(DeviceError, match=r"android: .* while starting"):
        profile_artifact(phone, pair[0], runs=8)


def test_a_tool_that_says_something_else_is_one_line(adb: Path, phone: Profile, pair: tuple[Path, Path]) -> None:
    (adb / "said").write_text("INFO: STARTING!\nERROR: Failed to load model\n")
    with pytest.raises(DeviceError, match=r"android: benchmark_model gave no timing \(ERROR: Failed to load model\)"):
        profile_artifact(phone, pair[0], runs=8)


def test_a_phone_that_is_away_is_one_line(adb: Path, phone: Profile) -> None:
    away = replace(phone, transport=replace(phone.transport, serial="other"))
    with pytest.raises(DeviceError, match="android: adb failed while looking for benchmark_model"):
        Phone(away).has_tool()


def test_no_adb_names_the_package(monkeypatch: pytest.MonkeyPatch, phone: Profile, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match="android: there is no adb here; on Debian `apt-get install adb`"):
        Phone(phone).has_tool()


def test_numbers_in_any_notation() -> None:
    text = "Inference timings in us: Init: 1e+06, First inference: 5, Warmup (avg): 7.5, Inference (avg): 2.5e+03"
    assert parsed(text, "here").mean_us == 2500
    assert parsed(text, "here").memory_bytes == 0
