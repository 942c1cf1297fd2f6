"""A mirror without a window: signals, the end and the exit status."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

from mirrorgui.errors import MirrorGUIError
from mirrorgui.faces import Face, JsonFace, TextFace
from mirrorgui.mirror.rates import RateTracker
from mirrorgui.mirror.snapshot import JobSnapshot, Outcome
from mirrorgui.mirror.states import OVER, JobStatus
from mirrorgui.session import MirrorRequest, MirrorSession
from mirrorgui.units import format_size

if TYPE_CHECKING:
    from mirrorgui.qmp.address import Address

Opener: TypeAlias = Callable[[MirrorRequest], Awaitable[MirrorSession]]

EXIT_DONE, EXIT_FAILED, EXIT_CANCELLED = 0, 1, 130

PROGRESS_S = 1.0
"""Between two progress lines."""

GUESTS_S = 0.2
"""How often the end of the last guest's connection is looked for."""


def run_mirror(
    request: MirrorRequest, *, as_json: bool = False, qmp: "Address | None" = None
) -> int:
    """Mirror, and return the exit status when it has ended.

    Made for a process that ends afterwards: the signals it handles are ignored from then on.

    Args:
        request: what is asked for.
        as_json: print events and progress on stdout as lines of JSON.
        qmp: where others can control it meanwhile; None lets nobody.

    Raises:
        InvalidInput: refused; nothing was touched.
    """
    face: Face = JsonFace(sys.stdout, sys.stderr) if as_json else TextFace(sys.stderr)
    return asyncio.run(_run(request, face) if qmp is None else _run_with_qmp(request, face, qmp))


async def _run_with_qmp(request: MirrorRequest, face: Face, address: "Address") -> int:
    from mirrorgui.house import House
    from mirrorgui.qmp.monitor import monitored

    house = House()
    async with monitored(house, address) as server:
        face.say(f"QMP: {server.address}")
        return await _run(request, face, house.open)


async def _run(request: MirrorRequest, face: Face, opener: Opener = MirrorSession.open) -> int:
    signals = _Signals(face, opener)
    try:
        session = await signals.open(request)
        if session is None:
            face.say("mirrorgui: cancelled before it began; nothing was changed")
            return EXIT_CANCELLED
        try:
            final = await _mirror(session, face, signals)
        finally:
            await session.close()
        return _verdict(session, final, face)
    finally:
        signals.close()


async def _mirror(session: MirrorSession, face: Face, signals: "_Signals") -> JobSnapshot:
    """Run the job to its end, and serve guests that use the target until they leave."""
    for finding in session.warnings:
        face.say(f"mirrorgui: warning: {finding.field}: {finding.text}")
    for event in session.events.since(0)[0]:
        face.event(event)
    session.events.listen(face.event)
    ticker = asyncio.create_task(_tick(session, face))  # ended and awaited below
    try:
        session.start()
        if session.export_uri:
            face.say(f"Guests: {session.export_uri}")
        final = await session.wait()
        if session.clients() and final.outcome is not Outcome.CANCELLED:
            # Also when the mirror failed: that is no reason to take their disk away.
            if final.outcome is Outcome.FAILED:
                face.say(f"mirrorgui: the mirror failed: {final.error}")
            face.say(f"Guests use {session.drive.name}; serving them until they leave.")
            await session.release_unused()
            await signals.guests_gone(session)
    finally:
        ticker.cancel()
        await asyncio.gather(ticker, return_exceptions=True)
        face.end()
    return final


def _verdict(session: MirrorSession, final: JobSnapshot, face: Face) -> int:
    """Say how it ended and what the target is worth, and return the exit status."""
    target = session.request.target
    if final.outcome is Outcome.CANCELLED:
        worth = "is not guaranteed to be complete" if final.ready else "is incomplete"
        face.say(f"mirrorgui: cancelled; {target} {worth}")
        return EXIT_CANCELLED
    if final.outcome is Outcome.FAILED:
        for record in final.errors[-1:]:
            where = f" at {record.offset} (+{record.length})" if record.length else ""
            face.say(f"mirrorgui: {record.operation} failed{where}: {record.message}")
        reason = (final.error or "").rstrip(".")
        face.say(f"mirrorgui: the mirror failed: {reason}. {target} is not usable.")
        return EXIT_FAILED
    if session.target_loss:
        face.say(f"mirrorgui: the mirror failed: {session.target_loss}. There is no usable copy.")
        return EXIT_FAILED
    how = "Completed" if final.outcome is Outcome.SWITCHED else "Finished without switching"
    copied, zeroed = format_size(final.copied_bytes), format_size(final.zeroed_bytes)
    face.say(f"{how}: {copied} copied, {zeroed} of zeroes.")
    return EXIT_DONE


async def _tick(session: MirrorSession, face: Face) -> None:
    tracker = RateTracker()
    loss = ""
    while True:
        snapshot = session.job.snapshot()
        face.progress(snapshot, tracker.add(snapshot))
        await asyncio.sleep(PROGRESS_S)
        before, loss = loss, await session.look_after_target()
        if loss and not before:
            face.say(f"mirrorgui: warning: {loss}")


class _Signals:
    """SIGINT and SIGTERM end the job, softly where that is possible; SIGCONT resumes it.

    They are handled from before the images are opened until the job is over. systemd sends SIGCONT
    right behind SIGTERM, so any of them may come in any state.
    """

    def __init__(self, face: Face, opener: Opener) -> None:
        self._face = face
        self._opener = opener
        self._loop = asyncio.get_running_loop()
        self._opening: asyncio.Task[object] | None = None
        self._session: MirrorSession | None = None
        self._asked = False
        self._stop_serving = asyncio.Event()
        self._handled: list[int] = []
        self._handle("SIGINT", self._end)
        self._handle("SIGTERM", self._end)
        self._handle("SIGCONT", self._resume)
        self._handle("SIGUSR1", self._complete)

    def _handle(self, name: str, handler: Callable[[], None]) -> None:
        number = getattr(signal, name, None)  # not every platform has them all
        with contextlib.suppress(NotImplementedError):  # nor handlers on the loop
            if number is not None:
                self._loop.add_signal_handler(number, handler)
                self._handled.append(number)

    def close(self) -> None:
        """From now on a late signal must not turn the exit status into another."""
        for number in self._handled:
            self._loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)

    async def open(self, request: MirrorRequest) -> MirrorSession | None:
        """Open a session; None when a signal came meanwhile, and everything is as it was.

        Raises:
            InvalidInput: refused; nothing was touched.
        """
        self._opening = asyncio.current_task()
        try:
            self._session = await self._opener(request)
        except asyncio.CancelledError:
            if not self._asked:
                raise
        finally:
            self._opening = None
        return self._session

    async def guests_gone(self, session: MirrorSession) -> None:
        """Wait until no guest is connected any more, or somebody wants to stop."""
        while session.clients() and not self._stop_serving.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop_serving.wait(), GUESTS_S)

    def _end(self) -> None:
        again, self._asked = self._asked, True
        if self._session is None:
            self._end_opening(again)
            return
        job = self._session.job
        if job.status in OVER:
            self._stop_serving.set()
            return
        soft = not again and job.status is JobStatus.READY
        self._ask(lambda: job.cancel(force=not soft))

    def _end_opening(self, again: bool) -> None:
        if again:  # something hangs, a dead file server maybe
            os._exit(EXIT_CANCELLED)
        if self._opening is not None:
            self._opening.cancel()

    def _complete(self) -> None:
        session = self._session
        if session is not None:
            self._ask(session.job.complete)

    def _resume(self) -> None:
        session = self._session
        if session is not None and session.job.snapshot().paused_by_error:
            self._ask(session.job.resume)

    def _ask(self, verb: Callable[[], None]) -> None:
        try:
            verb()
        except MirrorGUIError as error:  # too early, or it is ending already
            self._face.say(f"mirrorgui: {error}")
