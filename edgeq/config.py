"""edgeq.toml, the project file: its reading, its checks, and the commented one that `edgeq init` writes.

    [convert]          what the flags of `edgeq convert` say, by the same names; a flag given overrides it
    [gate]             the budgets (see edgeq.release.budgets)
    [gate.device.P]    budgets that replace those on device profile P

The same tables may stand in pyproject.toml under [tool.edgeq]. A key that is not known is an error that names the
nearest one, because a misspelt budget would otherwise be a check that never runs.
"""

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgeq.errors import UsageError
from edgeq.release.budgets import BUDGET_NAMES, Budgets

PROJECT_NAME = "edgeq.toml"
Kind = Literal["text", "whole number", "number", "yes or no"]


@dataclass(frozen=True)
class Key:
    """One key of [convert].

    Attributes:
        kind: what its value is.
        many: whether it takes a list.
        help: one line for the commented file.
        default: as it is shown there; None where there is none.
    """

    kind: Kind
    many: bool = False
    help: str = ""
    default: Any = None


@dataclass(frozen=True)
class Project:
    """A project file that was read and checked.

    Attributes:
        path: where it lies.
        convert: key -> value of [convert].
        budgets: of [gate].
        device_budgets: profile -> limits of [gate.device.<profile>].
    """

    path: Path
    convert: Mapping[str, Any] = field(default_factory=dict)
    budgets: Budgets = field(default_factory=Budgets)
    device_budgets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def find_project(folder: Path, keys: Mapping[str, Key]) -> Project | None:
    """The folder's edgeq.toml, or [tool.edgeq] of its pyproject.toml; None if it has neither.

    Raises:
        UsageError: as read_project.
    """
    if (folder / PROJECT_NAME).is_file():
        return read_project(folder / PROJECT_NAME, keys)
    other = folder / "pyproject.toml"
    if other.is_file() and re.search(r"^\s*\[tool\.edgeq[.\]]", other.read_text(encoding="utf-8"), re.MULTILINE):
        return read_project(other, keys)
    return None


def read_project(path: Path, keys: Mapping[str, Key]) -> Project:
    """Read and check a project file.

    Args:
        path: edgeq.toml, or a pyproject.toml.
        keys: the keys that [convert] may hold.

    Raises:
        UsageError: it cannot be read, or a table, key or value is wrong; the message names the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content: Any = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: not TOML: {error}") from error
    prefix = ""
    if path.name == "pyproject.toml":
        prefix, content = "tool.edgeq.", content.get("tool", {}).get("edgeq", {})
    return _Reader(path, text, prefix).project(content, keys)


@dataclass(frozen=True)
class _Reader:
    path: Path
    text: str
    prefix: str

    def project(self, content: Mapping[str, Any], keys: Mapping[str, Key]) -> Project:
        self._known(content, ("convert", "gate"), "")
        convert = self._table(content, "convert", "")
        self._known(convert, keys, "convert")
        checked = {name: self._value("convert", name, value, keys[name]) for name, value in convert.items()}
        gate = self._table(content, "gate", "")
        devices = self._table(gate, "device", "gate")
        general = {name: value for name, value in gate.items() if name != "device"}
        budgets = self._budgets(Budgets(), general, "gate", (*BUDGET_NAMES, "device"))
        own = {}
        for profile in devices:
            limits = self._table(devices, profile, "gate.device")
            self._budgets(budgets, limits, f"gate.device.{profile}", BUDGET_NAMES)
            own[profile] = without_off(limits)
        return Project(self.path, checked, budgets, own)

    def _table(self, content: Mapping[str, Any], name: str, table: str) -> dict[str, Any]:
        value = content.get(name, {})
        if not isinstance(value, dict):
            self._wrong(table, name, f"{name} is a table: write [{f'{table}.' if table else ''}{name}]")
        return dict(value)

    def _known(self, content: Mapping[str, Any], known: Iterable[str], table: str) -> None:
        names = tuple(known)
        for name in content:
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
                hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names)}"
                self._wrong(table, name, f"{name!r} is not known{f' in [{table}]' if table else ''}; {hint}")

    def _value(self, table: str, name: str, value: Any, key: Key) -> Any:
        if key.many:
            values = value if isinstance(value, list) else [value]
            return [self._value(table, name, item, Key(key.kind)) for item in values]
        right = {
            "text": isinstance(value, str),
            "whole number": isinstance(value, int) and not isinstance(value, bool),
            "number": isinstance(value, int | float) and not isinstance(value, bool),
            "yes or no": isinstance(value, bool),
        }[key.kind]
        if not right:
            wanted = "true or false" if key.kind == "yes or no" else f"a {key.kind}"
            self._wrong(table, name, f"{name} = {value!r} is not {wanted}")
        return value

    def _budgets(self, base: Budgets, limits: Mapping[str, Any], table: str, known: Iterable[str]) -> Budgets:
        self._known(limits, known, table)
        for name, value in limits.items():
            off = isinstance(value, bool) and not value and name not in ("delivered", "confidence")
            if name == "delivered":
                self._value(table, name, value, Key("yes or no"))
            elif not off:
                self._value(table, name, value, Key("number"))
            try:
                base.with_limits({name: None if off else value})
            except UsageError as error:
                self._wrong(table, name, str(error))
        return base.with_limits(without_off(limits))

    def _wrong(self, table: str, name: str, reason: str) -> None:
        line = line_of(self.text, f"{self.prefix}{table}".rstrip("."), name)
        raise UsageError(f"{self.path.name}{f' line {line}' if line else ''}: {reason}")


def without_off(limits: Mapping[str, Any]) -> dict[str, Any]:
    """Limits with `false`, which TOML has in place of nothing, as None: the check is off."""
    return {name: None if value is False and name != "delivered" else value for name, value in limits.items()}


def line_of(text: str, table: str, name: str) -> int | None:
    """The line, from 1, on which a key of a table (or the table of that name) is set; None if it is not found."""
    wanted, current = f"{table}.{name}".lstrip("."), ""
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[+\s*([^\]]+?)\s*\]", line)
        if header:
            current = _bare(header[1])
            if current == wanted or current.startswith(f"{wanted}."):
                return number
        key = re.match(r"\s*([\w\-.\"']+)\s*=", line)
        if key and f"{current}.{_bare(key[1])}".lstrip(".") == wanted:
            return number
    return None


def _bare(name: str) -> str:
    return re.sub(r"[\"'\s]", "", name)


def commented_project(values: Mapping[str, Any], keys: Mapping[str, Key]) -> str:
    """The text of a commented edgeq.toml: the given values of [convert], every other key as a comment."""
    lines = [
        "# edgeq: what `edgeq convert` and `edgeq gate` do in this folder. Flags override it.",
        "",
        "[convert]",
    ]
    for name, key in keys.items():
        lines += [f"# {key.help}"] if key.help else []
        if name in values:
            lines.append(f"{name} = {_toml(values[name])}")
        else:
            default = [] if key.many else {"text": "", "yes or no": False}.get(key.kind, 0)
            lines.append(f"# {name} = {_toml(default if key.default is None else key.default)}")
    return "\n".join([*lines, "", *_GATE.splitlines(), ""])


_GATE = """\
[gate]
# Drops and shares are parts of one: 0.01 is one point or one percent. `false` switches a check off.
# Every limit that is set must be measured to pass.
accuracy_drop = 0.01       # of the deployed model against the float model on the same device
# baseline_drop = 0.01     # against the last release (`edgeq gate --baseline`)
# slice_drop = 0.05        # of every class or other slice
# agreement = 0.98         # least share of samples with the float model's decision
parity = 0.99              # least share of samples whose simulated and deployed decisions are equal
# parity_steps = 1         # largest difference of simulated and deployed outputs, in steps
# size_bytes = 500_000
# memory_bytes = 64_000_000 # what a process gains at its peak by running the model
# latency_ms = 10.0        # median; absolute times depend on the machine, prefer speed_up
# start_up_ms = 100.0      # from loading to the first result
# speed_up = 1.2           # least speed over the float model, timed in turn
# slowdown = 0.1           # tolerated loss of speed-up against the last release
# integer_share = 1.0      # least share of MACs in integer kernels
# delivered = true         # the files hold what was asked
confidence = 0.95          # chances of a false pass and of a false fail stay under 1 - confidence

# [gate.device.cpu-litert] # limits that replace those above on one device
# latency_ms = 5.0
"""


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(item) for item in value)}]"
    if isinstance(value, int | float):
        return repr(value)
    text = str(value)
    escaped = "".join(
        f"\\u{ord(c):04X}" if ord(c) < 32 or ord(c) == 127 else f"\\{c}" if c in '"\\' else c for c in text
    )
    return f'"{escaped}"'
