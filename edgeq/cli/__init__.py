"""The command line: one file per command, loaded only when it is called, so that ``edgeq --help`` answers at once."""

import importlib
import signal
import sys
from types import FrameType

import click

from edgeq import __version__
from edgeq.errors import EdgeqError, ExitCode

#: command -> its line in ``edgeq --help``; the command itself is ``edgeq.cli.<command>.command``.
COMMANDS: dict[str, str] = {
    "convert": "Quantize a model, export integer ONNX and TFLite, and validate them on the target runtimes.",
    "demo": "The whole pipeline on a small model and data inside the package: no file, no network.",
    "inspect": "What a float or quantized .onnx or .tflite file contains, and what of it is really integer.",
    "diagnose": "Why accuracy was lost, which layers are to blame, and what will cure it.",
    "validate": "Metric, agreement and parity of an artefact on real runtimes.",
    "profile": "Latency of an artefact, alone or against another, with the time of each op.",
    "gate": "PASS, FAIL or INCONCLUSIVE of a release against budgets and the last release.",
    "report": "A run as one self-contained HTML page.",
    "verify": "Check a release's hashes and provenance; with --rebuild, that the same inputs give the same bytes.",
    "devices": "List, show, check and probe device profiles.",
    "init": "Write a commented edgeq.toml for a model and its data.",
}


class _Lazy(click.Group):
    """Imports a command's file when the command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"edgeq.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, message="edgeq %(version)s")
def cli() -> None:
    """Ship quantized models that can be trusted.

    Exit codes: 0 passed, 1 the gate failed, 2 wrong usage or bad input, 3 inconclusive, 4 a device or runtime could not
    be used, 130 interrupted (and can be resumed).
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with a documented code; an expected failure is one line, never a traceback."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        result = cli.main(args=arguments, prog_name="edgeq", standalone_mode=False)
        code = ExitCode.PASSED if not isinstance(result, int) else result
    except click.exceptions.Abort:
        code = _say("interrupted; run the same command again to go on where it stopped", ExitCode.INTERRUPTED)
    except KeyboardInterrupt:
        code = _say("interrupted; run the same command again to go on where it stopped", ExitCode.INTERRUPTED)
    except click.ClickException as error:
        code = _say(" ".join(error.format_message().split()), ExitCode.USAGE)
    except EdgeqError as error:
        code = _say(" ".join(str(error).split()), error.exit_code)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        code = _say(f"{error.strerror or error}{where}; nothing was left half-written", ExitCode.USAGE)
    sys.exit(int(code))


def _say(message: str, code: ExitCode) -> ExitCode:
    click.echo(f"edgeq: {message}", err=True)
    return code


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
