"""Where log lines go, and what becomes of an error that nobody expected.

The terminal gets lines from the level in ``MIRRORGUI_LOG`` on (WARNING by default), without
tracebacks unless that variable is set. Errors also go, with their tracebacks, to a file in the
user's state folder, because the one who reports them has usually not set anything beforehand.
"""

import logging
import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TextIO

from mirrorgui.errors import InvalidInput

VARIABLE = "MIRRORGUI_LOG"
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

_LINE = "%(asctime)s %(levelname)s %(name)s: %(message)s"

_log = logging.getLogger(__name__)


def error_file(environment: Mapping[str, str] = os.environ) -> Path:
    """Name the file that keeps errors with their tracebacks (XDG state folder)."""
    state = environment.get("XDG_STATE_HOME", "")
    base = Path(state) if Path(state).is_absolute() else Path.home() / ".local" / "state"
    return base / "mirrorgui" / "errors.log"


def level_from(environment: Mapping[str, str] = os.environ) -> int:
    """Read the level for the terminal.

    Raises:
        InvalidInput: the variable names no level.
    """
    name = environment.get(VARIABLE, "") or "WARNING"
    if name.upper() not in LEVELS:
        raise InvalidInput(VARIABLE, name, f"choose one of {', '.join(LEVELS)}")
    return logging.getLevelNamesMapping()[name.upper()]


class _ShortFormatter(logging.Formatter):
    """One line a record: what a person at a terminal can use."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{record.levelname.lower()}: {record.getMessage()}"
        return line.replace("\n", " ")


class _ErrorFile(logging.Handler):
    """Appends errors to the file; makes it, and its folder, only when there is one to write."""

    def __init__(self, path: Path) -> None:
        super().__init__(logging.ERROR)
        self._path = path
        self.setFormatter(logging.Formatter(_LINE))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(self.format(record) + "\n")
        except OSError:  # a read-only home must not turn one error into two
            return


def start(environment: Mapping[str, str] = os.environ, terminal: TextIO | None = None) -> None:
    """Send log lines to the terminal (stderr unless given) and errors to the file.

    Raises:
        InvalidInput: ``MIRRORGUI_LOG`` names no level; nothing is set up.
    """
    level = level_from(environment)
    lines = logging.StreamHandler(terminal or sys.stderr)
    lines.setLevel(level)
    asked = bool(environment.get(VARIABLE))
    lines.setFormatter(logging.Formatter(_LINE) if asked else _ShortFormatter())
    root = logging.getLogger()
    root.setLevel(min(level, logging.ERROR))
    root.addHandler(lines)
    root.addHandler(_ErrorFile(error_file(environment)))
    logging.captureWarnings(True)


def log_unexpected(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None, where: str
) -> None:
    """Log an error that no code expected, with its traceback, and say how to report it."""
    _log.error(
        "%s stopped on an internal error (%s: %s). Please report it with the details in %s; "
        "with %s=DEBUG they are shown here.",
        where,
        kind.__name__,
        error,
        error_file(),
        VARIABLE,
        exc_info=(kind, error, trace),
    )


def catch_unexpected() -> None:
    """From now on, log what would end the program or a thread with a bare traceback.

    The interpreter still exits with status 1 when the error was in the main thread.
    """

    def in_main(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        log_unexpected(kind, error, trace, "MirrorGUI")

    def in_thread(arguments: threading.ExceptHookArgs) -> None:
        if arguments.exc_value is not None:
            name = arguments.thread.name if arguments.thread else "unknown"
            log_unexpected(
                arguments.exc_type,
                arguments.exc_value,
                arguments.exc_traceback,
                f"The thread {name}",
            )

    sys.excepthook = in_main
    threading.excepthook = in_thread
