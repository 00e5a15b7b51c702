"""How a long task tells where it is: the pipeline calls it, the command line shows it."""

from typing import Protocol


class Reporter(Protocol):
    """Told of each stage: once at its start, often while it runs, once at its end."""

    def start(self, stage: str) -> None:
        """A stage begins."""

    def advance(self, done: int, total: int | None) -> None:
        """So much of the running stage is done; total is None if it is not known."""

    def finish(self, line: str) -> None:
        """The running stage is done; one line says what came of it."""


class Silent:
    """Says nothing."""

    def start(self, stage: str) -> None:
        """Say nothing."""

    def advance(self, done: int, total: int | None) -> None:
        """Say nothing."""

    def finish(self, line: str) -> None:
        """Say nothing."""


SILENT: Reporter = Silent()
