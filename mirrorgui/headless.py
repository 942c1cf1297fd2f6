"""A mirror without a window: progress lines, JSON lines, signals and the exit status."""

import asyncio
import contextlib
import json
import signal
import sys
import time
from collections.abc import Callable
from typing import TextIO

from mirrorgui.errors import MirrorGUIError
from mirrorgui.mirror.events import JobEvent
from mirrorgui.mirror.rates import EtaState, Rates, RateTracker
from mirrorgui.mirror.snapshot import JobSnapshot, Outcome, Phase
from mirrorgui.mirror.states import OVER, WORKING, JobStatus
from mirrorgui.session import MirrorRequest, MirrorSession
from mirrorgui.units import format_rate, format_size

EXIT_DONE, EXIT_FAILED, EXIT_CANCELLED = 0, 1, 130

PROGRESS_S = 1.0
"""Between two progress lines."""

GUESTS_S = 0.2
"""How often the end of the last guest's connection is looked for."""

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


def run_mirror(request: MirrorRequest, *, as_json: bool = False) -> int:
    """Mirror, and return the exit status when it has ended.

    Raises:
        InvalidInput: refused; nothing was touched.
    """
    return asyncio.run(_run(request, as_json))


async def _run(request: MirrorRequest, as_json: bool) -> int:
    session = await MirrorSession.open(request)
    face = _JsonFace(sys.stdout) if as_json else _TextFace(sys.stderr)
    session.events.listen(face.event)
    if as_json:
        for event in session.events.since(0)[0]:
            face.event(event)
    signals = _Signals(session)
    ticker = asyncio.create_task(_tick(session, face))
    try:
        session.start()
        if session.export_uri:
            face.say(f"Guests: {session.export_uri}")
        final = await session.wait()
        if session.clients() and final.outcome in (Outcome.SWITCHED, Outcome.FINISHED):
            face.say(f"Guests use {session.drive.name}; serving them until they leave.")
            await signals.guests_gone()
    finally:
        ticker.cancel()
        await asyncio.gather(ticker, return_exceptions=True)
        signals.close()
        await session.close()
    face.end()
    return _verdict(session, final)


def _verdict(session: MirrorSession, final: JobSnapshot) -> int:
    """Say on stderr how it ended, and return the exit status."""
    if final.outcome in (Outcome.SWITCHED, Outcome.FINISHED):
        return EXIT_DONE
    if final.outcome is Outcome.CANCELLED:
        worth = "is not guaranteed to be complete" if final.ready else "is incomplete"
        print(f"mirrorgui: cancelled; {session.request.target} {worth}", file=sys.stderr)
        return EXIT_CANCELLED
    for record in final.errors[-1:]:
        where = f" at {record.offset} (+{record.length})" if record.length else ""
        print(f"mirrorgui: {record.operation} failed{where}: {record.message}", file=sys.stderr)
    reason = f"{final.error}. {session.request.target} is not usable."
    print(f"mirrorgui: the mirror failed: {reason}", file=sys.stderr)
    return EXIT_FAILED


async def _tick(session: MirrorSession, face: "_TextFace | _JsonFace") -> None:
    tracker = RateTracker()
    while True:
        snapshot = session.job.snapshot()
        face.progress(snapshot, tracker.add(snapshot))
        await asyncio.sleep(PROGRESS_S)


class _Signals:
    """SIGINT and SIGTERM end the job, softly where that is possible; SIGCONT resumes it."""

    def __init__(self, session: MirrorSession) -> None:
        self._session = session
        self._loop = asyncio.get_running_loop()
        self._asked = False
        self._stop_serving = asyncio.Event()
        self._handled: dict[int, Callable[[], None]] = {
            signal.SIGINT: self._end,
            signal.SIGTERM: self._end,
            signal.SIGCONT: self._resume,
            signal.SIGUSR1: self._complete,
        }
        for number, handler in self._handled.items():
            self._loop.add_signal_handler(number, handler)

    def close(self) -> None:
        """Give the signals back."""
        for number in self._handled:
            self._loop.remove_signal_handler(number)

    async def guests_gone(self) -> None:
        """Wait until no guest is connected any more, or somebody wants to stop."""
        while self._session.clients() and not self._stop_serving.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop_serving.wait(), GUESTS_S)

    def _complete(self) -> None:
        try:
            self._session.job.complete()
        except MirrorGUIError as error:
            print(f"mirrorgui: {error}", file=sys.stderr)

    def _end(self) -> None:
        job = self._session.job
        if job.status in OVER:
            self._stop_serving.set()
            return
        soft = not self._asked and job.status is JobStatus.READY
        self._asked = True
        try:
            job.cancel(force=not soft)
        except MirrorGUIError as error:  # it is ending already
            print(f"mirrorgui: {error}", file=sys.stderr)

    def _resume(self) -> None:
        if self._session.job.snapshot().paused_by_error:
            self._session.job.resume()


class _TextFace:
    """Lines for people, on one line of a terminal or each on its own in a log."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._width = 0

    def say(self, text: str) -> None:
        """Tell something else."""
        self._line(text)

    def event(self, event: JobEvent) -> None:
        """Tell what a person must know at once."""
        if event.name == "BLOCK_JOB_READY":
            self._line("In sync.")
        elif event.name == "BLOCK_JOB_ERROR":
            self._line(f"A {event.data['operation']} failed: {event.data['action']}.")

    def progress(self, snapshot: JobSnapshot, rates: Rates) -> None:
        """Show where the job is."""
        if snapshot.status not in WORKING:
            return
        text = _progress_text(snapshot, rates)
        if self._is_terminal:
            self._stream.write("\r" + text.ljust(self._width))
            self._width = len(text)
            self._stream.flush()
        else:
            self._line(text)

    def end(self) -> None:
        """Leave the terminal's line."""
        if self._width:
            self._stream.write("\n")
            self._width = 0

    def _line(self, text: str) -> None:
        self.end()
        print(text, file=self._stream, flush=True)


def _progress_text(snapshot: JobSnapshot, rates: Rates) -> str:
    if snapshot.paused_by_error:
        record = snapshot.errors[-1]
        return (
            f"Stopped: {record.operation} error at {record.offset}: {record.message}. "
            "SIGCONT tries again."
        )
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


class _JsonFace:
    """JSON lines for programs: QMP events, and PROGRESS each second."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def say(self, text: str) -> None:
        """Tell a person: not on stdout, which is for programs."""
        print(text, file=sys.stderr, flush=True)

    def event(self, event: JobEvent) -> None:
        """Print an event as QMP has it."""
        self._print(event.as_qmp())

    def progress(self, snapshot: JobSnapshot, rates: Rates) -> None:
        """Print a PROGRESS line."""
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
        """Nothing is left to print."""

    def _print(self, message: dict[str, object]) -> None:
        print(json.dumps(message), file=self._stream, flush=True)
