"""What the layout promises: the links and their guards, the direction of imports, a command line that starts fast."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from edgeq.cli import COMMANDS

ROOT = Path(__file__).parent.parent
AXES = ("calibration", "exporters", "devices")
#: What an axis may import besides itself: true of every model, method, format and device.
SHARED = ("graph", "plan", "simulate", "errors", "measurement", "task")
#: What knows all axes: the pipeline and its two faces, the command line and the Python functions of the same names.
#: The demonstration's training script is an entry of its own, run by hand.
TOP = ("edgeq.pipeline", "edgeq.cli", "edgeq.api", "edgeq.__main__", "edgeq.demo.train")
HEAVY = ("torch", "onnx", "onnx_ir", "onnxruntime", "onnxscript", "ai_edge_litert", "numpy", "scipy", "matplotlib")
CONFIG: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())


def sources() -> Iterator[tuple[str, Path]]:
    """(module name, file) of all code: the spine, then each axis by its real folder."""
    for folder, package in (("edgeq", "edgeq"), *((axis, f"edgeq.{axis}") for axis in AXES)):
        for path in sorted((ROOT / folder).rglob("*.py")):
            relative = path.relative_to(ROOT / folder)
            if folder == "edgeq" and relative.parts[0] in AXES:
                continue
            parts = [part for part in relative.with_suffix("").parts if part != "__init__"]
            yield ".".join([package, *parts]), path


@cache
def modules() -> frozenset[str]:
    return frozenset(name for name, _ in sources())


def imports(path: Path, *, only_at_import: bool = False) -> set[str]:
    """The modules that a file imports, as precisely as its text says."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in _at_import(tree) if only_at_import else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            base = node.module or ""
            for alias in node.names:
                full = f"{base}.{alias.name}"
                found.add(full if full in modules() else base)
    return found


def _at_import(tree: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield child
        yield from _at_import(child)


def within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


# The links and the five guards of their holes.


@pytest.mark.parametrize("axis", AXES)
def test_axes_are_relative_links_that_resolve(axis: str) -> None:
    link = ROOT / "edgeq" / axis
    assert link.is_symlink()
    assert link.readlink() == Path("..") / axis
    assert (link / "__init__.py").samefile(ROOT / axis / "__init__.py")


def test_pyright_is_given_the_real_folders() -> None:
    include = CONFIG["tool"]["pyright"]["include"]
    assert sorted(include) == sorted(("edgeq", *AXES))
    assert all((ROOT / folder).is_dir() and not (ROOT / folder).is_symlink() for folder in include)


def test_coverage_is_given_the_real_folders() -> None:
    folders = CONFIG["tool"]["coverage"]["run"]["source_dirs"]
    assert sorted(folders) == sorted(("edgeq", *AXES))
    assert all((ROOT / folder).is_dir() and not (ROOT / folder).is_symlink() for folder in folders)


@pytest.mark.parametrize("statement", [f"import {axis}" for axis in AXES] + [f"from {axis} import x" for axis in AXES])
def test_the_linter_bans_an_axis_under_its_second_name(statement: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--select", "TID251", "--stdin-filename", "edgeq/example.py", "-"],
        input=f"{statement}\n",
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert result.returncode == 1
    assert "second module object" in result.stdout


def test_pytest_imports_test_files_without_touching_the_path(pytestconfig: pytest.Config) -> None:
    # Otherwise the top of the checkout is on the path and `import calibration` finds a second module object.
    assert "--import-mode=importlib" in CONFIG["tool"]["pytest"]["ini_options"]["addopts"]
    assert pytestconfig.getoption("importmode") == "importlib"


def test_the_linter_does_not_read_the_links_as_well() -> None:
    assert set(CONFIG["tool"]["ruff"]["extend-exclude"]) == {f"edgeq/{axis}" for axis in AXES}


# The direction of imports.


@pytest.mark.parametrize("axis", AXES)
def test_an_axis_imports_only_the_shared_spine_and_itself(axis: str) -> None:
    allowed = tuple(f"edgeq.{name}" for name in (*SHARED, axis))
    wrong = {
        f"{name} imports {target}"
        for name, path in sources()
        if within(name, (f"edgeq.{axis}",))
        for target in imports(path)
        if within(target, ("edgeq",)) and not within(target, allowed)
    }
    assert not wrong


def test_only_the_pipeline_and_the_command_line_know_the_axes() -> None:
    axes = tuple(f"edgeq.{axis}" for axis in AXES)
    wrong = {
        f"{name} imports {target}"
        for name, path in sources()
        if not within(name, (*TOP, *axes))
        for target in imports(path)
        if within(target, (*axes, "edgeq.pipeline", "edgeq.cli"))
    }
    assert not wrong


@pytest.mark.parametrize(
    ("package", "may"),
    [
        ("errors", ()),
        ("measurement", ()),
        ("graph", ("errors",)),
        ("plan", ("errors", "graph")),
        ("simulate", ("errors", "graph", "plan")),
    ],
)
def test_the_shared_spine_is_layered(package: str, may: tuple[str, ...]) -> None:
    allowed = tuple(f"edgeq.{name}" for name in (package, *may))
    wrong = {
        f"{name} imports {target}"
        for name, path in sources()
        if within(name, (f"edgeq.{package}",))
        for target in imports(path)
        if within(target, ("edgeq",)) and not within(target, allowed)
    }
    assert not wrong


def test_no_import_cycles() -> None:
    edges = {name: imports(path, only_at_import=True) & modules() - {name} for name, path in sources()}
    while leaves := {name for name, targets in edges.items() if not targets & edges.keys()}:
        for leaf in leaves:
            del edges[leaf]
    assert not edges, f"modules that import one another, or such: {sorted(edges)}"


# The command line, and what is written into the repository.


def _loaded(arguments: list[str]) -> set[str]:
    code = (
        "import sys\nfrom edgeq.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit as end:\n    assert end.code == 0, end.code\n"
        "print('LOADED', *sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.rsplit("LOADED", 1)[1].split())


def test_help_starts_at_once() -> None:
    assert not _loaded(["--help"]) & set(HEAVY)


@pytest.mark.parametrize("command", [c for c in COMMANDS if (ROOT / "edgeq" / "cli" / f"{c}.py").is_file()])
def test_the_help_of_a_command_starts_at_once(command: str) -> None:
    assert not _loaded([command, "--help"]) & {"torch", "onnx", "onnx_ir", "onnxruntime", "ai_edge_litert"}


def test_no_file_tells_of_the_machine_it_was_written_on() -> None:
    local = re.compile(r"(?<![\w.$}])/(?:work|root|home|Users)/\w")
    tops = ["edgeq", *AXES, "tests", "docs", "examples", "benchmarks", ".ci", ".github"]
    files = [path for top in tops for path in (ROOT / top).rglob("*")]
    files += [path for path in ROOT.iterdir() if path.name != ".git"]
    wrong = []
    for path in files:
        if not path.is_file() or "__pycache__" in path.parts or path.suffix in (".npz", ".pyc"):
            continue
        text = path.read_bytes().decode(errors="ignore")
        wrong += [f"{path.relative_to(ROOT)}: {match.group()}" for match in local.finditer(text)]
    assert not wrong
