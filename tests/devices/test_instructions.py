"""Instructions under emulation: the count repeats, grows with the work, and says so where it cannot be had."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from edgeq.cli import main
from edgeq.devices import load_profile
from edgeq.devices.instructions import InstructionCount, _from_marks, count_instructions
from edgeq.devices.profiling import profile_artifact
from edgeq.devices.speed_verdict import instruction_verdict
from edgeq.devices.transports import CannotCountError, emulated
from edgeq.errors import DeviceError
from edgeq.measurement import DeviceInfo

from . import models

A53 = DeviceInfo("p", "litert", "2.3.0", "aarch64", "Cortex-A53", ("asimd",), 1, 1)


def count(median: int, lowest: int = 0, highest: int = 0) -> InstructionCount:
    return InstructionCount(median, lowest or median, highest or median, 5)


def test_what_the_marks_cost_is_taken_off() -> None:
    # A pair of marks around nothing, then one around each run.
    counted = _from_marks([100, 110, 200, 1210, 1300, 2320, 2400, 3410], 3, "here")
    assert counted == InstructionCount(median=1000, lowest=1000, highest=1010, runs=3)
    assert counted.spread == pytest.approx(0.01)


def test_a_missing_mark_is_an_error_and_not_a_number() -> None:
    with pytest.raises(DeviceError, match="here: 3 marks of 4 arrived"):
        _from_marks([100, 110, 200], 1, "here")


def test_a_device_that_is_not_emulated_has_no_count() -> None:
    with pytest.raises(DeviceError, match="cpu-litert: instructions are counted under emulation alone"):
        count_instructions(load_profile("cpu-litert"), models.tflite_integer())


@pytest.mark.parametrize("missing", ["qemu-aarch64", "cc"])
def test_a_missing_tool_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch, missing: str, tmp_path: Path
) -> None:
    transport = emulated.Emulated("aarch64", "cortex-a76", (), count_into=tmp_path / "counts")
    monkeypatch.setattr(emulated.Emulated, "_system", lambda self: tmp_path)
    found = {"qemu-aarch64": "/usr/bin/true", "cc": "/usr/bin/true"} | {missing: None}
    monkeypatch.setattr(shutil, "which", found.get)
    with pytest.raises(CannotCountError, match=r"apt-get install qemu-user gcc libc6-dev"):
        transport.command("litert")


def test_a_compiler_that_fails_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEQ_CACHE", str(tmp_path))
    monkeypatch.setattr(emulated.Emulated, "_system", lambda self: tmp_path)
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/false" if name == "cc" else "/usr/bin/true")
    with pytest.raises(CannotCountError, match="cannot compile the instruction counter") as caught:
        emulated.Emulated("aarch64", "cortex-a76", (), count_into=tmp_path / "counts").command("litert")
    assert "\n" not in str(caught.value)


def test_the_verdict_names_cpus_without_8_bit_products() -> None:
    assert instruction_verdict(count(300), count(1000), A53).faster
    slower = instruction_verdict(count(1100), count(1000), A53)
    assert not slower.faster
    assert "saves no instructions here: 1.100 times" in slower.sentence
    assert "because Cortex-A53 has no instructions for 8-bit products" in slower.sentence
    # Within what repeats differ by, fewer instructions are no finding.
    assert not instruction_verdict(count(995, 990, 1010), count(1000), A53).faster


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    integer, floating = tmp_path / "int8.tflite", tmp_path / "float.tflite"
    integer.write_bytes(models.tflite_integer())
    floating.write_bytes(models.tflite_float())
    return integer, floating


@pytest.mark.slow
def test_counts_repeat(pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    results = []
    for _ in range(2):
        with pytest.raises(SystemExit) as caught:
            main(["profile", str(pair[0]), "--against", str(pair[1]), "--device", "arm64-litert", "--json"])
        assert caught.value.code == 0
        results.append(json.loads(capsys.readouterr().out))
    first, second = (result["instructions"]["median"] for result in results)
    assert 1_000 < first < 1_000_000
    # Addresses of a fresh process decide a few branches of the allocator: hundredths, not parts.
    assert first == pytest.approx(second, rel=0.03)
    assert results[0]["latency"] is None
    assert "million" not in results[0]["verdict"]["sentence"]
    assert "times the float model's instructions on Cortex-A76" in results[0]["verdict"]["sentence"]


@pytest.mark.slow
def test_without_the_tool_the_command_says_so_and_goes_on(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "cc" else real(name))
    profile = load_profile("arm64-litert")
    result = profile_artifact(profile, *pair, runs=5)
    assert result.instructions is None
    assert result.latency is not None
    assert result.verdict is None
    assert "no C compiler here" in result.notes[0]
    assert "the emulator's, not a device's" in result.notes[0]


@pytest.mark.slow
def test_a_cpu_with_8_bit_products_needs_fewer(tmp_path: Path) -> None:
    from . import single_ops

    case = single_ops.weighted("Conv", 0, channels=16)
    profile = load_profile("arm64-litert")
    old = replace(profile, transport=replace(profile.transport, cpu="cortex-a53"))
    assert count_instructions(profile, case.artifact).median < 0.7 * count_instructions(old, case.artifact).median
