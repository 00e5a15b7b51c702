"""How a command takes its defaults from edgeq.toml: the keys of [convert] are the names of `edgeq convert`'s flags."""

from pathlib import Path
from typing import Any

import click

from edgeq.config import Key, Kind, Project, find_project

_NOT_KEYS = frozenset({"as_json", "quiet", "verbose", "help"})


def convert_keys() -> dict[str, Key]:
    """The keys of [convert], from the command itself, so that the two cannot differ."""
    from edgeq.cli.convert import command

    return {_key_name(param): _key(param) for param in command.params if param.name not in _NOT_KEYS}


def project_of(folder: Path) -> Project | None:
    """The project file of a folder, or None.

    Raises:
        UsageError: it holds something wrong.
    """
    return find_project(folder, convert_keys())


class ProjectCommand(click.Command):
    """A command whose defaults are those of edgeq.toml in the working folder; flags override them."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> click.Context:
        """Read the project file before the arguments."""
        project = project_of(Path.cwd())
        if project is not None:
            names = {_key_name(param): param.name for param in self.params}
            extra["default_map"] = {names[key]: value for key, value in project.convert.items() if key in names}
            extra["obj"] = project
        return super().make_context(info_name, args, parent, **extra)


def _key_name(param: click.Parameter) -> str:
    longest = max(param.opts, key=len)
    return longest.lstrip("-").replace("-", "_")


def _key(param: click.Parameter) -> Key:
    kind: Kind = "text"
    if isinstance(param.type, click.types.BoolParamType):
        kind = "yes or no"
    elif isinstance(param.type, click.types.IntParamType):
        kind = "whole number"
    elif isinstance(param.type, click.types.FloatParamType):
        kind = "number"
    default = param.default if isinstance(param.default, str | int | float | Path) else None
    text = getattr(param, "help", None) or ""
    if isinstance(param, click.Argument):
        text = "The model: .onnx, .pt2, or package.module:factory."
    return Key(kind, bool(param.multiple) if isinstance(param, click.Option) else False, text, default)
