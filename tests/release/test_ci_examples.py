"""The CI examples: their commands are run as they stand, against a stand-in edgeq that gives each exit code."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from edgeq.cli import COMMANDS
from edgeq.cli.convert import command as convert
from edgeq.cli.gate import command as gate
from edgeq.cli.verify import command as verify
from edgeq.demo import EVALUATION, MODEL, TRAIN

CI = Path(__file__).parents[2] / "docs" / "ci"
EXAMPLES = sorted(CI.iterdir())
OPTIONS = {"convert": convert, "gate": gate, "verify": verify}
STAND_IN = """#!/bin/sh
echo "$@" >> calls
case "$1" in
  convert) mkdir -p release; echo '{}' > release/report.json; exit ${CONVERT:-0} ;;
  gate) echo "verdict" > summary.md; exit ${GATE:-0} ;;
esac
"""


def blocks(path: Path) -> list[str]:
    """The shell blocks of a workflow: what follows `run: |` or `- |`, and the single commands."""
    lines, found = path.read_text().splitlines(), []
    for number, line in enumerate(lines):
        match = re.match(r"^(\s*)(?:run: |- (?:run: )?)\|$", line)
        if match:
            inner = []
            for after in lines[number + 1 :]:
                if after.strip() and len(after) - len(after.lstrip()) <= len(match[1]):
                    break
                inner.append(after.strip())
            found.append("\n".join(inner))
    return found


def run(folder: Path, script: str, tool_text: str = STAND_IN, **codes: str) -> int:
    tool = folder / "bin" / "edgeq"
    tool.parent.mkdir(exist_ok=True)
    tool.write_text(tool_text)
    tool.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tool.parent}:{os.environ['PATH']}", **codes}
    return subprocess.run(["sh", "-e", "-c", script], cwd=folder, env=environment, check=False).returncode


@pytest.mark.parametrize("name", ["github-actions.yml", "gitlab-ci.yml"])
@pytest.mark.parametrize(
    ("built", "judged", "job"),
    [("0", "0", 0), ("1", "1", 1), ("3", "3", 3), ("2", "0", 2), ("4", "0", 4), ("0", "1", 1)],
)
def test_the_job_ends_with_the_gates_code_and_errors_stop_it(
    tmp_path: Path, name: str, built: str, judged: str, job: int
) -> None:
    code = 0
    for script in [block for block in blocks(CI / name) if "edgeq" in block]:
        code = code or run(tmp_path, script, CONVERT=built, GATE=judged)
    assert code == job


@pytest.mark.parametrize("name", ["github-actions.yml", "gitlab-ci.yml"])
def test_the_last_release_is_the_baseline_once_there_is_one(tmp_path: Path, name: str) -> None:
    (script,) = [block for block in blocks(CI / name) if "edgeq gate" in block]
    assert run(tmp_path, script) == 0
    assert "--baseline" not in (tmp_path / "calls").read_text()
    (tmp_path / "last-release").mkdir()
    (tmp_path / "last-release" / "report.json").write_text("{}")
    assert run(tmp_path, script) == 0
    assert "--baseline last-release" in (tmp_path / "calls").read_text()


def hooks() -> list[str]:
    """The commands of the pre-commit example."""
    (repository,) = yaml.safe_load((CI / "pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    assert all(hook["language"] == "system" and not hook["pass_filenames"] for hook in repository["hooks"])
    return [hook["entry"] for hook in repository["hooks"]]


@pytest.mark.parametrize(("judged", "ends"), [("0", [0, 0]), ("1", [0, 1]), ("3", [0, 3])])
def test_the_hooks_refuse_what_does_not_pass(tmp_path: Path, judged: str, ends: list[int]) -> None:
    assert [run(tmp_path, entry, GATE=judged) for entry in hooks()] == ends


@pytest.mark.slow
@pytest.mark.parametrize("name", ["github-actions.yml", "gitlab-ci.yml"])
def test_the_job_runs_as_it_stands_on_a_real_model_twice(tmp_path: Path, name: str) -> None:
    real = f'#!/bin/sh\nPYTHONPATH="{CI.parents[1]}" exec "{sys.executable}" -m edgeq "$@"\n'
    demo = (str(path) for path in (MODEL, TRAIN, EVALUATION))
    assert run(tmp_path, "edgeq init {} --data {} --eval {}".format(*demo), real) == 0
    project = tmp_path / "edgeq.toml"
    project.write_text(project.read_text().replace("# latency_runs = 200", "latency_runs = 0"))
    jobs = [block for block in blocks(CI / name) if "edgeq" in block and "CI_COMMIT_BRANCH" not in block]
    for turn in ("first", "with a baseline"):
        assert [run(tmp_path, script, real) for script in jobs] == [0] * len(jobs), turn
        assert "<testsuites" in (tmp_path / "junit.xml").read_text()
        assert ("baseline_drop" in (tmp_path / "summary.md").read_text().replace("\\", "")) == (turn != "first")
        if turn == "first":
            (tmp_path / "release").rename(tmp_path / "last-release")
    assert [run(tmp_path, entry, real) for entry in hooks()] == [0, 0]
    (tmp_path / "release" / "model.onnx").write_bytes(b"by hand")
    assert [run(tmp_path, entry, real) for entry in hooks()] == [1, 1]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_command_and_option_in_the_examples_exists(path: Path) -> None:
    calls = re.findall(r"\bedgeq ([a-z]+)((?: +[-\w.$]+)*)", re.sub(r"#.*", "", path.read_text()))
    calls = [(name, rest) for name, rest in calls if name in COMMANDS or "--" in rest]
    assert calls
    for name, rest in calls:
        known = {option for param in OPTIONS[name].params for option in (*param.opts, *param.secondary_opts)}
        assert set(re.findall(r"--[a-z-]+", rest)) <= known


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_are_yaml(path: Path) -> None:
    content = yaml.safe_load(path.read_text())
    assert isinstance(content, dict)
