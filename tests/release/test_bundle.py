"""A release folder: whole, without traces of the computer, and every change to it is found."""

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgeq.cli.gate import command as gate_command
from edgeq.cli.report import command as report_command
from edgeq.cli.verify import command as verify_command
from edgeq.errors import DataError, OutputError, UsageError
from edgeq.release.bundle import local_traces, verify_bundle, write_bundle
from edgeq.release.gate import gate
from edgeq.release.hashing import sha256_of_json
from edgeq.release.lock import read_lock
from edgeq.release.release import Artifact, Release
from edgeq.release.signing import sign, verify_signature

MakeRelease = Callable[..., Release]
MODEL = b"\x08\x0a model bytes"
FILES = {"edgeq.lock", "junit.xml", "model.onnx", "report.html", "report.json", "summary.md"}


@pytest.fixture(scope="module")
def written(make_release: MakeRelease, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(make_release(), tmp_path_factory.mktemp("written") / "release")


@pytest.fixture
def bundle(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "release"))


def write(release: Release, folder: Path, model: bytes = MODEL) -> Path:
    release = replace(release, artifacts=(Artifact("model.onnx", sha256(model).hexdigest(), len(model)),))
    write_bundle(folder, release, gate(release), {"model.onnx": model}, {"model": "11" * 32, "calibration": "22" * 32})
    return folder


def run(command: object, *arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(
        command, [str(argument) for argument in arguments], catch_exceptions=False, standalone_mode=False
    )
    return int(result.return_value), result.output


def test_a_bundle_holds_the_promised_files_and_verifies(bundle: Path) -> None:
    assert {path.name for path in bundle.iterdir()} == FILES
    lock, problems = verify_bundle(bundle)
    assert problems == ()
    assert lock["recipe"]["inputs"] == {"model": "11" * 32, "calibration": "22" * 32}
    assert lock["recipe"]["options"]["seed"] == 0
    assert lock["measured_on"]["cpu-onnxruntime"]["cpu_features"] == ["avx2", "avx512_vnni"]


@pytest.mark.parametrize("name", sorted(FILES))
@pytest.mark.parametrize("how", ["flip", "append", "remove", "truncate", "link"])
def test_any_change_of_any_file_is_found(bundle: Path, name: str, how: str, tmp_path: Path) -> None:
    path = bundle / name
    data = path.read_bytes()
    if how == "flip":
        path.write_bytes(data[:40] + bytes([data[40] ^ 1]) + data[41:] if len(data) > 40 else data[:-1] + b"?")
    elif how == "append":
        path.write_bytes(data + b"x")
    elif how == "truncate":
        path.write_bytes(data[:-3])
    else:
        path.unlink()
        if how == "link":
            (tmp_path / "elsewhere").write_bytes(data + b"?")
            path.symlink_to(tmp_path / "elsewhere")
    try:
        found = verify_bundle(bundle)[1]
    except DataError as error:
        found = (str(error),)
    assert any(name in problem for problem in found)


def test_an_added_file_is_found(bundle: Path) -> None:
    (bundle / "model2.onnx").write_bytes(b"")
    assert verify_bundle(bundle)[1] == ("model2.onnx: is not part of the release",)


def test_a_lock_that_names_another_model_is_found_even_with_its_digests_made_again(bundle: Path) -> None:
    (bundle / "model.onnx").write_bytes(b"evil")
    lock = json.loads((bundle / "edgeq.lock").read_text())
    lock["recipe"]["artifacts"]["model.onnx"]["sha256"] = sha256(b"evil").hexdigest()
    lock["recipe_digest"] = sha256_of_json(lock["recipe"])
    del lock["lock_digest"]
    lock["lock_digest"] = sha256_of_json(lock)
    (bundle / "edgeq.lock").write_text(json.dumps(lock))
    assert verify_bundle(bundle)[1] == ("report.json: speaks of other files than edgeq.lock",)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"lock_version": 1}', '{"lock_version": 7}'])
def test_a_broken_lock_is_an_error(bundle: Path, text: str) -> None:
    (bundle / "edgeq.lock").write_text(text)
    with pytest.raises(DataError, match=r"edgeq\.lock"):
        read_lock(bundle)


def test_the_same_release_gives_the_same_bytes_in_another_folder(make_release: MakeRelease, tmp_path: Path) -> None:
    first, second = write(make_release(), tmp_path / "a"), write(make_release(), tmp_path / "deep" / "b")
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in FILES)


def test_other_times_change_the_records_and_not_the_recipe(
    make_release: MakeRelease, make_measurement: Callable[..., object], tmp_path: Path
) -> None:
    first = write(make_release(), tmp_path / "a")
    second = write(make_release(make_measurement(latency=None)), tmp_path / "b")
    locks = [read_lock(folder) for folder in (first, second)]
    assert locks[0]["recipe_digest"] == locks[1]["recipe_digest"]
    assert locks[0]["records"] != locks[1]["records"]


def test_a_path_of_this_computer_is_refused(
    make_release: MakeRelease, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home" / "alice"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    trace = f"{home}/src/net.py line 3".encode()
    assert local_traces(b"\x00" + trace) == [f"{home}/"]
    with pytest.raises(OutputError, match=r"model\.onnx would hold a path of this computer"):
        write(make_release(), tmp_path / "release", MODEL + trace)
    assert not (tmp_path / "release").exists()
    with pytest.raises(OutputError, match=r"would hold a path"):
        write(make_release(notes=(f"read {home}/data",)), tmp_path / "release")


def test_a_listed_file_that_is_not_given_is_refused(make_release: MakeRelease, tmp_path: Path) -> None:
    release = make_release()
    with pytest.raises(OutputError, match=r"model\.onnx"):
        write_bundle(tmp_path / "r", release, gate(release), {}, {})


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen")
def test_a_signature_is_its_signers_and_of_these_bytes(bundle: Path, tmp_path: Path) -> None:
    for name in ("alice", "mallory"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(tmp_path / name)], check=True
        )
    signers = tmp_path / "signers"
    signers.write_text(f"alice {(tmp_path / 'alice.pub').read_text()}")
    with pytest.raises(DataError, match="is not signed"):
        verify_signature(bundle, signers, "alice")
    assert run(verify_command, bundle, "--sign", tmp_path / "alice")[0] == 0
    verify_signature(bundle, signers, "alice")
    code, output = run(verify_command, bundle, "--signers", signers, "--signer", "alice")
    assert (code, "signed by alice" in output) == (0, True)
    sign(bundle, tmp_path / "mallory")
    with pytest.raises(DataError, match="not alice's"):
        verify_signature(bundle, signers, "alice")
    sign(bundle, tmp_path / "alice")
    (bundle / "edgeq.lock").write_text((bundle / "edgeq.lock").read_text() + "\n")
    with pytest.raises(DataError, match="not alice's"):
        verify_signature(bundle, signers, "alice")
    with pytest.raises(UsageError, match="cannot sign"):
        sign(bundle, tmp_path / "signers")


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen")
@pytest.mark.parametrize("how", ["append", "flip", "another", "empty", "link"])
def test_a_changed_signature_is_found_without_knowing_the_signer(bundle: Path, tmp_path: Path, how: str) -> None:
    key, path = tmp_path / "key", bundle / "edgeq.lock.sig"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(key)], check=True)
    sign(bundle, key)
    assert verify_bundle(bundle)[1] == ()
    data = path.read_bytes()
    if how == "append":
        path.write_bytes(data + b"x")
    elif how == "flip":
        path.write_bytes(data[:200] + (b"A" if data[200:201] != b"A" else b"B") + data[201:])
    elif how == "another":
        (tmp_path / "edgeq.lock").write_text("another lock")
        path.write_bytes(sign(tmp_path, key).read_bytes())
    elif how == "empty":
        path.write_bytes(b"")
    else:
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    (problem,) = verify_bundle(bundle)[1]
    assert problem.startswith("edgeq.lock.sig: ")


def test_verify_says_what_was_changed_and_fails(bundle: Path) -> None:
    code, output = run(verify_command, bundle)
    assert (code, "all files are as they were written" in output) == (0, True)
    (bundle / "model.onnx").write_bytes(b"evil")
    code, output = run(verify_command, bundle)
    assert (code, "changed: model.onnx" in output) == (1, True)
    code, output = run(verify_command, bundle, "--json")
    assert json.loads(output)["problems"] == ["model.onnx: was changed after the release was written"]


def test_gate_judges_a_folder_with_exit_codes_and_files(bundle: Path, tmp_path: Path) -> None:
    junit, markdown = tmp_path / "out" / "junit.xml", tmp_path / "out" / "summary.md"
    code, output = run(gate_command, bundle, "--baseline", bundle, "--junit", junit, "--summary", markdown)
    assert (code, output.splitlines()[-1]) == (0, "PASS: all 5 checks passed")
    assert junit.read_bytes().startswith(b"<?xml")
    assert "PASS" in markdown.read_text()
    code, output = run(gate_command, bundle, "--budget", "size_bytes=10", "--annotations")
    assert code == 1
    assert "::error title=edgeq size cpu-onnxruntime::290 KB of 10 B" in output
    code, output = run(gate_command, bundle, "--budget", "accuracy-drop=0.0011", "--json")
    assert (code, json.loads(output)["outcome"]) == (3, "inconclusive")


def test_gate_fails_a_folder_that_was_tampered_with(bundle: Path) -> None:
    (bundle / "model.onnx").write_bytes(b"evil")
    code, output = run(gate_command, bundle)
    assert code == 1
    assert "model.onnx is not the file that was measured" in output


def test_gate_reads_budgets_from_the_project_file(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bundle.parent)
    (bundle.parent / "edgeq.toml").write_text("[gate.device.cpu-onnxruntime]\nsize_bytes = 10\n")
    assert run(gate_command, bundle)[0] == 1
    assert run(gate_command, bundle, "--budget", "size_bytes=1e9")[0] == 0
    (bundle.parent / "edgeq.toml").write_text("[gate]\nsize_bytes = 10\n")
    assert run(gate_command, bundle, "--budget", "size_bytes=1e9")[0] == 0


def test_gate_holds_what_the_device_profile_allows(make_release: MakeRelease, tmp_path: Path) -> None:
    limits = {"cpu-onnxruntime": {"size_bytes": 10.0, "start_up_ms": 50.0}}
    folder = write(make_release(device_limits=limits), tmp_path / "release")
    code, output = run(gate_command, folder)
    assert code == 1
    assert "FAIL  size           cpu-onnxruntime: 290 KB of 10 B: 290 KB too much" in output
    assert "pass  start_up       cpu-onnxruntime: 33 ms of 50 ms" in output
    assert run(gate_command, folder, "--budget", "size_bytes=off")[0] == 0


@pytest.mark.parametrize("budget", ["size=3", "size_bytes", "size_bytes=big", "delivered=3", "confidence=off"])
def test_a_wrong_budget_on_the_command_line_is_refused(bundle: Path, budget: str) -> None:
    with pytest.raises(UsageError, match="budget"):
        run(gate_command, bundle, "--budget", budget)


def test_report_is_written_beside_the_locked_folder(bundle: Path) -> None:
    code, output = run(report_command, bundle, "--against", bundle)
    assert code == 0
    assert Path(output.strip()) == bundle.parent / "release-report.html"
    assert "Side by side" in Path(output.strip()).read_text()
    assert verify_bundle(bundle)[1] == ()
    with pytest.raises(UsageError, match="locked"):
        run(report_command, bundle, "-o", bundle / "report.html")
