"""What a mirror without a window says: lines for people, or JSON lines for programs.

Whoever reads them may go away; the mirror does not depend on it.
"""

import contextlib
import json
import os
import time
from typing import Protocol, TextIO

from mirrorgui.mirror.events import JobEvent
from mirrorgui.mirror.rates import EtaState, Rates
from mirrorgui.mirror.snapshot import JobSnapshot, Phase
from mirrorgui.mirror.states import WORKING
from mirrorgui.units import format_rate, format_size

_PHASES = {
    Phase.PREPARING: "Preparing",
    Phase.SCANNING: "Scanning",
    Phase.COPYING: "Copying",
    Phase.FLUSHING: "Flushing",
    Phase.IN_SYNC: "In sync",
    Phase.SWITCHING: "Switching",
    Phase.ENDING: "Ending",
    Phase.OVER: "Done",
}


class Face(Protocol):
    """Who tells what happens."""

    def say(self, text: str) -> None:
        """Tell a person something."""

    def event(self, event: JobEvent) -> None:
        """Tell that something happened."""

    def progress(self, snapshot: JobSnapshot, rates: Rates) -> None:
        """Tell where the job is."""

    def end(self) -> None:
        """Nothing more will come."""


class Output:
    """A standard stream; once it cannot be written any more, it swallows everything.

    Args:
        stream: stdout or stderr; None when the caller has closed it.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    @property
    def is_terminal(self) -> bool:
        """Whether somebody watches."""
        return self._stream is not None and self._stream.isatty()

    def write(self, text: str) -> bool:
        """Write at once; False when this was too much for the stream."""
        if self._stream is None:
            return True
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            discard(self._stream)
            self._stream = None
            return False
        return True


def discard(stream: TextIO) -> None:
    """Let a stream that cannot be written lead to nowhere.

    What it still holds is tried again when the interpreter ends, and would spoil the exit status.
    """
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


class TextFace:
    """Lines for people, on one line of a terminal or each on its own in a log."""

    def __init__(self, stream: TextIO | None) -> None:
        self._output = Output(stream)
        self._is_terminal = self._output.is_terminal
        self._width = 0
        self._stopped = ""

    def say(self, text: str) -> None:
        """See ``Face``."""
        self.end()
        self._output.write(f"{text}\n")

    def event(self, event: JobEvent) -> None:
        """Tell what a person must know at once."""
        if event.name == "BLOCK_JOB_READY":
            self.say("In sync.")
        elif event.name == "BLOCK_JOB_ERROR":
            self.say(f"A {event.data['operation']} failed: {event.data['action']}.")

    def progress(self, snapshot: JobSnapshot, rates: Rates) -> None:
        """Show where the job is; that it is stopped is said once."""
        if snapshot.status not in WORKING or snapshot.phase is Phase.PREPARING:
            return
        stopped = _stopped_text(snapshot)
        if stopped:
            if stopped != self._stopped:
                self.say(stopped)
        elif self._is_terminal:
            text = _progress_text(snapshot, rates)
            self._output.write("\r" + text.ljust(self._width))
            self._width = len(text)
        else:
            self.say(_progress_text(snapshot, rates))
        self._stopped = stopped

    def end(self) -> None:
        """Leave the terminal's line."""
        if self._width:
            self._output.write("\n")
            self._width = 0


def _stopped_text(snapshot: JobSnapshot) -> str:
    if not snapshot.paused_by_error or not snapshot.errors:
        return ""
    record = snapshot.errors[-1]
    where = f" at {record.offset}" if record.length else ""
    return f"Stopped: {record.operation} error{where}: {record.message}. SIGCONT tries again."


def _progress_text(snapshot: JobSnapshot, rates: Rates) -> str:
    word = _PHASES[snapshot.phase]
    if snapshot.phase is Phase.SCANNING:
        done, total = format_size(snapshot.scan_done), format_size(snapshot.scan_total)
        return f"{word}: {done} of {total}"
    text = (
        f"{word}: {snapshot.fraction:.1%}, {format_size(snapshot.offset)} of "
        f"{format_size(snapshot.length)}, {format_rate(rates.current)}"
    )
    if rates.state is EtaState.ETA and rates.eta_s is not None:
        text += f", {rates.eta_s:.0f} s left"
    elif rates.state is EtaState.WILL_NOT_FINISH:
        text += ", will not finish: guests write faster than the mirror copies"
    return text


class JsonFace:
    """JSON lines on stdout for programs: QMP events, and PROGRESS; the rest goes to stderr."""

    def __init__(self, stream: TextIO | None, people: TextIO | None) -> None:
        self._output = Output(stream)
        self._people = Output(people)

    def say(self, text: str) -> None:
        """See ``Face``."""
        self._people.write(f"{text}\n")

    def event(self, event: JobEvent) -> None:
        """Print an event as QMP has it."""
        self._print(event.as_qmp())

    def progress(self, snapshot: JobSnapshot, rates: Rates) -> None:
        """Print a PROGRESS line: sizes in bytes, rate in bytes per second, eta in seconds."""
        now_ns = time.time_ns()
        self._print(
            {
                "event": "PROGRESS",
                "data": {
                    "id": snapshot.job_id,
                    "status": snapshot.status.value,
                    "phase": snapshot.phase.value,
                    "len": snapshot.length,
                    "offset": snapshot.offset,
                    "dirty": snapshot.dirty_bytes,
                    "in-flight": snapshot.in_flight_bytes,
                    "rate": round(rates.current),
                    "eta": rates.eta_s,
                },
                "timestamp": {
                    "seconds": now_ns // 1_000_000_000,
                    "microseconds": now_ns // 1000 % 1_000_000,
                },
            }
        )

    def end(self) -> None:
        """See ``Face``."""

    def _print(self, message: dict[str, object]) -> None:
        if not self._output.write(json.dumps(message) + "\n"):
            self.say("mirrorgui: nobody reads stdout any more; the mirror goes on")
