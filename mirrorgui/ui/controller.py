"""Owns the mirrors: the only place of the window that calls the engine.

Two clocks: the selected mirror is looked at ten times a second while somebody can see it, all of
them once a second always. Events of a job bring a look at once.
"""

import asyncio
import itertools
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, QTimer, Signal

from mirrorgui.errors import InvalidInput, StateError
from mirrorgui.mirror.bitmap import MapWords
from mirrorgui.mirror.events import JobEvent
from mirrorgui.mirror.options import CopyMode, ErrorPolicy, SyncMode
from mirrorgui.mirror.states import OVER, JobStatus
from mirrorgui.ui.backend import Backend, Session
from mirrorgui.ui.exports_watch import ExportsWatch
from mirrorgui.ui.frame import Ends, Frame
from mirrorgui.ui.images import describe, free_space
from mirrorgui.ui.mirror_record import MirrorRecord
from mirrorgui.ui.models.log import LogQueue, line_of_event
from mirrorgui.ui.names import Names
from mirrorgui.ui.notices import Notice, refused
from mirrorgui.ui.tasks import TaskSet

if TYPE_CHECKING:
    from mirrorgui.demo import Demonstration
    from mirrorgui.session import MirrorRequest

logger = logging.getLogger(__name__)

FRAME_MS = 100
"""Ten looks a second: motion is smooth enough, and the window takes a few percent of a core."""

SLOW_MS = 1000
"""For the list, the charts of mirrors that are not selected, and while nobody looks."""


class Controller(QObject):
    """Sends verbs to mirrors and frames to panels. Made while the loop runs.

    Signals:
        frame_ready: a ``Frame``: of the selected mirror often, of the others once a second.
        added: the first ``Frame`` of a new mirror.
        removed: the key of a mirror that is no longer listed.
        selected_changed: the key of the mirror that is selected, or None.
        notice: a ``Notice`` that belongs to no mirror's state.
    """

    frame_ready = Signal(object)
    added = Signal(object)
    removed = Signal(int)
    selected_changed = Signal(object)
    notice = Signal(object)

    def __init__(
        self, backend: Backend, log: LogQueue | None = None, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self.backend = backend
        self._log = log
        self._mirrors: dict[int, MirrorRecord] = {}
        self._selected: int | None = None
        self._keys = itertools.count()
        self.loop = asyncio.get_running_loop()
        self._tasks = TaskSet(self.loop)
        self._starts = TaskSet(self.loop, awaited=True)
        self._frame_timer = self._make_timer(FRAME_MS, self._look_at_selected)
        self._slow_timer = self._make_timer(SLOW_MS, self._look_slowly)
        self._soon = self._make_timer(0, self._look_at_all)
        self._soon.setSingleShot(True)
        self._watched = False
        self.exports = ExportsWatch(self)
        self.exports.changed.connect(self._look_soon)

    def _make_timer(self, interval_ms: int, slot: Callable[[], None]) -> QTimer:
        timer = QTimer(self)
        timer.setInterval(interval_ms)
        timer.timeout.connect(slot)
        return timer

    # Looks.

    def set_watched(self, watched: bool) -> None:
        """Say whether anybody can see the window."""
        self._watched = watched
        self._set_clocks()
        self.exports.set_watched(watched)

    def _set_clocks(self) -> None:
        working = any(not each.closed for each in self._mirrors.values())
        for timer, wanted in (
            (self._frame_timer, self._watched and working),
            (self._slow_timer, working),
        ):
            if wanted and not timer.isActive():
                timer.start()
            elif not wanted:
                timer.stop()

    @property
    def selected(self) -> int | None:
        """Key of the selected mirror."""
        return self._selected

    @property
    def keys(self) -> tuple[int, ...]:
        """All mirrors, the oldest first."""
        return tuple(self._mirrors)

    def select(self, key: int | None) -> None:
        """Make a mirror the one that verbs and fast looks go to."""
        if key is not None and key not in self._mirrors:
            return
        if key != self._selected:
            self._selected = key
            self.selected_changed.emit(key)
        if key is not None:
            self._look(self._mirrors[key])

    def frame(self, key: int | None = None) -> Frame | None:
        """Return the latest frame of a mirror, of the selected one by default."""
        wanted = self._selected if key is None else key
        mirror = self._mirrors.get(wanted) if wanted is not None else None
        return self._frame_of(mirror) if mirror is not None else None

    def look_now(self) -> None:
        """Look at every mirror at once."""
        self._look_at_all()

    def _look_at_selected(self) -> None:
        mirror = self._mirrors.get(self._selected) if self._selected is not None else None
        if mirror is not None and not mirror.closed:
            self._look(mirror)

    def _look_slowly(self) -> None:
        self._look_at_all()
        for mirror in self._mirrors.values():
            if not mirror.closed and not mirror.looking_after:
                self._tasks.spawn(self._look_after(mirror))

    async def _look_after(self, mirror: MirrorRecord) -> None:
        """See whether another program took the target away; one look at a time."""
        mirror.looking_after = True
        try:
            await mirror.session.look_after_target()
        finally:
            mirror.looking_after = False

    def _look_at_all(self) -> None:
        for mirror in tuple(self._mirrors.values()):
            self._look(mirror)

    def _look(self, mirror: MirrorRecord) -> None:
        if not mirror.closed:
            mirror.snapshot = mirror.session.job.snapshot()
            self._copy_map(mirror)
            mirror.tracker.add(mirror.snapshot)
            self._look_at_export(mirror)
            self._watch_space(mirror)
        self.frame_ready.emit(self._frame_of(mirror))

    def _look_at_export(self, mirror: MirrorRecord) -> None:
        own = mirror.watch.look(mirror.snapshot.time_ns)
        mirror.exported = own or self.exports.of(mirror.session.drive)
        if mirror.serving and own is None:
            # A QMP client has removed it: nobody needs the mirror's images any more.
            mirror.serving = False
            self._tasks.spawn(self._close(mirror))

    @staticmethod
    def _copy_map(mirror: MirrorRecord) -> None:
        snapshot = mirror.snapshot
        if mirror.words.chunks != snapshot.chunks:
            mirror.words = MapWords.empty(snapshot.chunks)
            mirror.generation = None
        if snapshot.generation != mirror.generation:
            mirror.session.job.copy_map_into(mirror.words)
            mirror.generation = snapshot.generation

    @staticmethod
    def _frame_of(mirror: MirrorRecord) -> Frame:
        return Frame(
            mirror.key,
            mirror.names,
            mirror.ends,
            mirror.snapshot,
            mirror.words,
            mirror.tracker.latest,
            mirror.free_space,
            demonstration=mirror.demonstration is not None,
            target_loss=mirror.session.target_loss,
            exported=mirror.exported,
        )

    def _watch_space(self, mirror: MirrorRecord) -> None:
        if mirror.snapshot.io_status != "nospace":
            mirror.free_space = None
            return
        try:
            mirror.free_space = free_space(mirror.session.request.target)
        except OSError:
            mirror.free_space = None

    # Beginning and ending.

    async def start(
        self, request: "MirrorRequest", *, demonstration: "Demonstration | None" = None
    ) -> int:
        """Open both images and start the job; return the mirror's key.

        Raises:
            InvalidInput: refused; nothing was touched.
            BlockIOError: an image could not be read or written while it was opened.
        """
        # Its own task: a caller that is cancelled must not leave two images open behind it.
        return await asyncio.shield(self._starts.spawn(self._start(request, demonstration)))

    async def _start(self, request: "MirrorRequest", demonstration: "Demonstration | None") -> int:
        session = await self.backend.open(request)
        mirror = self._list(session, await self._describe(request, session), demonstration)
        session.start()
        if demonstration is not None:
            demonstration.begin_on(session.drive)
        self.select(mirror.key)
        logger.info("mirror started source=%s target=%s", request.source, request.target)
        return mirror.key

    def adopt(self, session: Session) -> None:
        """List a mirror that somebody else has opened and is about to start."""
        mirror = self._list(session, Ends())
        if self._selected is None:
            self.select(mirror.key)
        self._tasks.spawn(self._describe_adopted(mirror))
        logger.info("mirror adopted job=%s", mirror.snapshot.job_id)

    async def _describe_adopted(self, mirror: MirrorRecord) -> None:
        mirror.ends = await self._describe(mirror.session.request, mirror.session)
        self._look(mirror)

    def _list(
        self, session: Session, ends: Ends, demonstration: "Demonstration | None" = None
    ) -> MirrorRecord:
        request, job = session.request, session.job
        snapshot = job.snapshot()
        mirror = MirrorRecord(
            next(self._keys),
            session,
            Names.of(request.source, request.target),
            ends,
            snapshot,
            MapWords.empty(snapshot.chunks),
            policies=(request.options.on_source_error, request.options.on_target_error),
            demonstration=demonstration,
        )

        def heard(event: JobEvent) -> None:
            self._heard(mirror, event)

        mirror.forget_events = job.events.listen(heard)
        self._mirrors[mirror.key] = mirror
        self.added.emit(self._frame_of(mirror))
        self._set_clocks()
        self._tasks.spawn(self._wait_for(mirror))
        return mirror

    async def _describe(self, request: "MirrorRequest", session: Session) -> Ends:
        loop = asyncio.get_running_loop()

        def look() -> Ends:
            return describe(self.backend, request, created=session.target_created)

        return await loop.run_in_executor(None, look)

    def _heard(self, mirror: MirrorRecord, event: JobEvent) -> None:
        if self._log is not None:
            self._log.put(line_of_event(event, mirror.snapshot.job_id))
        self._look_soon()

    def _look_soon(self) -> None:
        if not self._soon.isActive():
            self._soon.start()

    async def _wait_for(self, mirror: MirrorRecord) -> None:
        await mirror.session.wait()
        self._look(mirror)
        if mirror.session.export_uri:
            await self._keep_serving(mirror)
        elif mirror.demonstration is None:
            await self._close(mirror)

    async def _keep_serving(self, mirror: MirrorRecord) -> None:
        """Leave the guests their disk; the other image is for everybody now."""
        await mirror.session.release_unused()
        if mirror.delete_incomplete and not mirror.closed:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, mirror.session.delete_incomplete_target)
        mirror.serving = True
        self._look(mirror)

    async def _close(self, mirror: MirrorRecord) -> None:
        if mirror.closed:
            return
        self._look(mirror)
        mirror.closed = True
        if mirror.forget_events is not None:
            mirror.forget_events()
        if mirror.demonstration is not None:
            mirror.demonstration.stop()
        await mirror.session.close()
        mirror.snapshot = mirror.session.job.snapshot()
        mirror.exported = None
        if mirror.delete_incomplete:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, mirror.session.delete_incomplete_target)
        if mirror.demonstration is not None:
            mirror.demonstration.close()
        self._set_clocks()
        self.frame_ready.emit(self._frame_of(mirror))

    async def remove(self, key: int) -> None:
        """Take a mirror off the list; one that still works is cancelled first."""
        mirror = self._mirrors.get(key)
        if mirror is None:
            return
        await self._close(mirror)
        self._mirrors.pop(key, None)
        self.removed.emit(key)
        if self._selected == key:
            self._selected = None
            self.select(next(reversed(self._mirrors), None))
            if self._selected is None:
                self.selected_changed.emit(None)

    def free_job_id(self) -> str:
        """Return a job name that no listed mirror and no other job has."""
        listed = {each.snapshot.job_id for each in self._mirrors.values()}
        taken = listed | self.backend.job_ids()
        return next(f"mirror{n}" for n in itertools.count() if f"mirror{n}" not in taken)

    def working(self) -> tuple[Frame, ...]:
        """Return the mirrors that have not ended."""
        return tuple(
            self._frame_of(each)
            for each in self._mirrors.values()
            if each.snapshot.status not in OVER
        )

    def serving(self) -> tuple[Frame, ...]:
        """Return the mirrors that have ended and whose disk is still offered to clients."""
        return tuple(
            self._frame_of(each)
            for each in self._mirrors.values()
            if each.snapshot.status in OVER and each.exported and not each.exported.by_command
        )

    def target_created(self, key: int) -> bool:
        """Say whether the target file was made by this mirror."""
        mirror = self._mirrors.get(key)
        return mirror is not None and mirror.session.target_created

    def request(self, key: int) -> "MirrorRequest | None":
        """Return what a mirror was asked to do."""
        mirror = self._mirrors.get(key)
        return mirror.session.request if mirror is not None else None

    def policies(self, key: int) -> tuple[ErrorPolicy, ErrorPolicy]:
        """Return the error policies in force, for reading and for writing."""
        return self._mirrors[key].policies

    def backing(self, key: int) -> str:
        """Return the source's backing file when the target will not need it, or an empty text."""
        mirror = self._mirrors.get(key)
        if mirror is None or mirror.snapshot.sync is not SyncMode.FULL:
            return ""
        return mirror.ends.source_backing

    def clients(self, key: int) -> int | None:
        """Return how many clients are connected; None when nobody counts them."""
        mirror = self._mirrors.get(key)
        if mirror is None:
            return None
        if mirror.demonstration is not None:
            return 1
        if mirror.session.export_uri:
            return len(mirror.session.clients())
        by_command = self.exports.of(mirror.session.drive)
        return len(by_command.clients) if by_command is not None else None

    def delete_incomplete_targets(self) -> None:
        """Have the targets deleted that we made and that are not usable, when mirrors close."""
        for mirror in self._mirrors.values():
            mirror.delete_incomplete = not mirror.snapshot.ready

    async def finish_all(self) -> None:
        """End every mirror that is in sync without switching, and wait for it."""
        for mirror in tuple(self._mirrors.values()):
            if mirror.snapshot.status is JobStatus.STANDBY:
                mirror.session.job.resume()
            if mirror.snapshot.ready and mirror.snapshot.status not in OVER:
                mirror.session.job.cancel(force=False)
                await mirror.session.wait()

    async def wait_for_ending(self) -> None:
        """Wait until the mirrors that are being ended have ended."""
        for mirror in tuple(self._mirrors.values()):
            if mirror.snapshot.status in (JobStatus.WAITING, JobStatus.PENDING, JobStatus.ABORTING):
                await mirror.session.wait()

    def demonstration(self, key: int) -> "Demonstration | None":
        """Return the demonstration that a mirror belongs to, if any."""
        mirror = self._mirrors.get(key)
        return mirror.demonstration if mirror is not None else None

    async def shutdown(self) -> None:
        """Cancel what works, release everything, wait for it."""
        self.exports.end()
        for timer in (self._frame_timer, self._slow_timer, self._soon):
            timer.stop()
        await self._starts.wait_all()
        closing = [self._close(mirror) for mirror in self._mirrors.values()]
        # One that cannot be closed must not keep the others open.
        for outcome in await asyncio.gather(*closing, return_exceptions=True):
            if isinstance(outcome, Exception):
                logger.error("a mirror could not be closed in order", exc_info=outcome)
        await self._tasks.cancel_all()
        for timer in (self._frame_timer, self._slow_timer, self._soon):
            timer.stop()

    # Verbs, for the selected mirror. A refusal becomes a notice and changes nothing.

    def pause(self) -> None:
        """Stop copying as soon as the operations in flight have ended."""
        self._send(lambda session: session.job.pause())

    def resume(self) -> None:
        """Go on; what failed is tried first."""
        self._send(lambda session: session.job.resume())

    def set_speed(self, speed: int) -> None:
        """Limit copying to ``speed`` bytes per second; 0 is no limit."""
        self._send(lambda session: session.job.set_speed(speed))

    def complete(self) -> None:
        """Switch clients over to the target."""
        self._send(lambda session: session.job.complete())

    def finish(self) -> None:
        """End in sync, without switching."""
        self._send(lambda session: session.job.cancel(force=False))

    def cancel(self, *, delete_incomplete: bool = False) -> None:
        """Stop at once; a target file that this mirror made can be deleted afterwards."""
        mirror = self._mirrors.get(self._selected) if self._selected is not None else None
        if mirror is not None:
            mirror.delete_incomplete = delete_incomplete
        self._send(lambda session: session.job.cancel(force=True))

    def use_write_blocking(self) -> None:
        """Let client writes wait for the target from now on."""
        self._send(lambda session: session.job.change(CopyMode.WRITE_BLOCKING))

    def set_policy(self, on_source_error: ErrorPolicy, on_target_error: ErrorPolicy) -> None:
        """Change what happens when a read or a write fails."""
        mirror = self._mirrors.get(self._selected) if self._selected is not None else None
        if mirror is not None:
            mirror.policies = (on_source_error, on_target_error)
        self._send(
            lambda session: session.job.set_policy(
                on_source_error=on_source_error, on_target_error=on_target_error
            )
        )

    def _send(self, verb: Callable[[Session], None]) -> None:
        mirror = self._mirrors.get(self._selected) if self._selected is not None else None
        if mirror is None or mirror.closed:
            return
        try:
            verb(mirror.session)
        except (StateError, InvalidInput) as error:
            logger.warning("refused: %s", error)
            self.notice.emit(refused(f"{error}."))
        self._look(mirror)

    def tell(self, notice: Notice) -> None:
        """Show a notice that belongs to no mirror's state."""
        self.notice.emit(notice)
