"""What is installed is what was tested: the wheel has no holes, and works in an environment of its own."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
AXES = ("calibration", "exporters", "devices")

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("packaging"), pytest.mark.timeout(1800)]


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    # Nothing of this environment may reach the new one.
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def tracked() -> list[str]:
    """Everything that a commit of the working tree would hold."""
    listing = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", cwd=ROOT)
    if listing.returncode:
        pytest.skip("this is no git checkout")
    return sorted(name for name in listing.stdout.split("\0") if name and (ROOT / name).exists())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # From a copy: setuptools reuses a stale build/ folder, and would pack what is no longer in the sources.
    copy = tmp_path_factory.mktemp("checkout")
    for name in tracked():
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_symlink():
            target.symlink_to((ROOT / name).readlink())
        else:
            target.write_bytes((ROOT / name).read_bytes())
    out = tmp_path_factory.mktemp("wheel")
    built = run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", out, ".", cwd=copy)
    assert built.returncode == 0, built.stderr
    (found,) = out.glob("edgeq-*.whl")
    return found


def test_the_wheel_holds_every_file_of_the_package_once(wheel: Path) -> None:
    wanted = set()
    for name in tracked():
        top, _, rest = name.partition("/")
        inside = f"edgeq/{name}" if top in AXES else name if top == "edgeq" and rest not in AXES else None
        if inside is not None:
            wanted.add(inside)
    with zipfile.ZipFile(wheel) as archive:
        held = [name for name in archive.namelist() if ".dist-info/" not in name]
    assert set(held) == wanted
    assert len(held) == len(set(held))


def test_the_wheel_puts_one_name_into_site_packages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"edgeq"}


@pytest.mark.parametrize(
    "pattern",
    [
        "py.typed",
        "demo/digits.onnx",
        "demo/train.npz",
        "demo/evaluation.npz",
        "devices/profiles/cpu-litert.toml",
        "devices/agent.py",
        "calibration/nearest.py",
        "exporters/onnx/export.py",
        "exporters/tflite/writer.py",
    ],
)
def test_the_wheel_holds_what_the_code_opens(wheel: Path, pattern: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert archive.getinfo(f"edgeq/{pattern}").file_size > 0 or pattern == "py.typed"


def test_the_demo_runs_in_an_empty_environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, with_pip=True)
    python = place / "bin" / "python"
    installed = run(
        python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", wheel, cwd=place
    )
    assert installed.returncode == 0, installed.stderr
    empty = tmp_path_factory.mktemp("empty")
    result = run(place / "bin" / "edgeq", "demo", cwd=empty)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout.splitlines()[-1].startswith("PASS")
    for said in ("cpu-onnxruntime", "cpu-litert", "quantized, on target", "integer share of MACs"):
        assert said in result.stdout
    release = empty / "demo-release"
    names = {path.name for path in release.iterdir()}
    assert {"model.onnx", "model.tflite", "report.json", "junit.xml", "summary.md", "edgeq.lock"} <= names
    where = run(python, "-c", "import edgeq.devices as d; print(d.__file__)", cwd=empty)
    assert Path(where.stdout.strip()).is_relative_to(place)
