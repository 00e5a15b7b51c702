from pathlib import Path

import pytest

from edgeq.devices import list_profiles, load_profile
from edgeq.devices.profile import check_fits, profile_from_table
from edgeq.errors import DeviceError, UsageError

GOOD = {"name": "board", "runtime": {"name": "litert", "version": ">=2.1"}}


def test_every_profile_that_ships_is_valid_and_named_as_its_file() -> None:
    assert {"cpu-onnxruntime", "cpu-litert"} <= set(list_profiles())
    for name in list_profiles():
        profile = load_profile(name)
        assert profile.name == name
        assert profile.description
        assert profile.bits


def test_a_users_own_file(tmp_path: Path) -> None:
    file = tmp_path / "board.toml"
    file.write_text('name = "board"\n[runtime]\nname = "litert"\nversion = ">=2.1"\nthreads = 4\n')
    profile = load_profile(file)
    assert (profile.name, profile.threads, profile.artifact) == ("board", 4, "tflite")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"runtimes": {}}, "unknown table runtimes; did you mean 'runtime'"),
        ({"nam": "x"}, "unknown key nam; did you mean 'name'"),
        ({"runtime": {"name": "litert", "version": "1", "thread": 1}}, r"\[runtime\] thread; did you mean 'threads'"),
        ({"runtime": {"name": "litrt", "version": "1"}}, "'litrt' is unknown; did you mean 'litert'"),
        ({"runtime": {"name": "zzz", "version": "1"}}, "'zzz' is unknown; one of onnxruntime"),
        ({"runtime": {"name": "litert"}}, r"\[runtime\] version is missing"),
        ({"runtime": {"name": "litert", "version": "new"}}, "Invalid specifier"),
        ({"runtime": {"name": "litert", "version": ">1", "threads": 0}}, "at least 1"),
        ({"runtime": {"name": "litert", "version": ">1", "threads": True}}, "should be a whole number"),
        ({"runtime": {"name": "litert", "version": ">1", "threads": "2"}}, "should be a whole number"),
        ({"formats": {"bits": ["w9a8"]}}, "weights take 2 to 8 bits"),
        ({"budgets": {"latency_ms": -1}}, "should be a number"),
        ({"transport": {"kind": "ssh"}}, "host is missing"),
        ({"transport": {"kind": "ssh", "host": "-oProxyCommand=x"}}, "is no host name"),
        ({"transport": {"kind": "emulated"}}, "architecture is missing"),
        ({"ops": {"integer": ["Conv"]}}, "should be a table of lists of texts"),
    ],
)
def test_a_wrong_profile_says_what_and_where(change: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        profile_from_table(GOOD | change, "board.toml")
    assert "board.toml" in str(caught.value)


def test_a_profile_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'cpu-litert'"):
        load_profile("cpu-lite")
    with pytest.raises(UsageError, match="No such file"):
        load_profile(tmp_path / "none.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("name = ")
    with pytest.raises(UsageError, match="not TOML"):
        load_profile(broken)


def test_a_runtime_of_another_version_is_refused() -> None:
    profile = load_profile("cpu-litert")
    check_fits(profile, "2.3.0", "x86_64")
    with pytest.raises(DeviceError, match=r"has litert 1.4.0, but the profile is for .*; install that version"):
        check_fits(profile, "1.4.0", "x86_64")


def test_a_profile_for_another_processor_is_refused() -> None:
    with pytest.raises(DeviceError, match=r"the device is x86_64, but the profile is for aarch64"):
        check_fits(load_profile("arm-onnxruntime"), "1.31.1", "x86_64")
