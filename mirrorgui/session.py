"""A mirror put together: both ends opened and checked, the drive, the job, and its end.

The only room that knows everybody. The window, the command line and QMP stand on it.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from mirrorgui.block.node import BlockNode
from mirrorgui.block.presence import Presence
from mirrorgui.errors import InvalidInput, JobFailed
from mirrorgui.mirror.drive import Drive
from mirrorgui.mirror.events import EventLog, JobEvent
from mirrorgui.mirror.job import MirrorJob
from mirrorgui.mirror.snapshot import JobSnapshot, Outcome
from mirrorgui.mirror.states import WORKING
from mirrorgui.pair import (
    OpenPair,
    OverwriteRefused,
    check_request,
    open_pair,
    remove_created,
    undo_pair,
)
from mirrorgui.request import ExportRequest, MirrorRequest, WhenReady

if TYPE_CHECKING:
    from mirrorgui.nbd.statistics import ConnectionStatistics
    from mirrorgui.offer import Offer

__all__ = [
    "ExportRequest",
    "MirrorRequest",
    "MirrorSession",
    "OverwriteRefused",
    "WhenReady",
    "check_request",
]

logger = logging.getLogger(__name__)

WATCH_S = 0.5
"""How often the target's length is looked at. What is cut stays short until the copy reaches the
image's end, so only a cut in the last moments can be missed."""

T = TypeVar("T")


class MirrorSession:
    """One mirror from opening to closing.

    Concurrency: belongs to the event loop's thread; ``drive`` may be used from any.

    Attributes:
        request: what was asked for.
        drive: the guest's front door.
        job: the mirror job.
        source, target: the nodes, open until ``close``.
        offer: the export to guests, or None.
        target_created: the target file was made by this session.
        warnings: what a person should know before the start.
        target_loss: what other programs did to the target's file so that the copy is lost, as of
            the last look; empty when nothing.
    """

    def __init__(self, request: MirrorRequest, pair: OpenPair) -> None:
        self.request = request
        self.source, self.target = pair.source, pair.target
        self.target_created = pair.created is not None
        self.warnings = pair.warnings
        self.target_loss = ""
        self.drive = Drive(pair.source)
        self.events = EventLog()
        self.job = MirrorJob(
            self.drive, pair.target, request.options, events=self.events, pivot=self._pivot
        )
        self.offer: Offer | None = None
        self._pair = pair
        self._presence = Presence(pair.target)
        self._closed = self._target_released = False
        # A look at the target's descriptor must not meet its closing.
        self._looking = asyncio.Lock()
        self.events.listen(self._on_event)

    @classmethod
    async def open(cls, request: MirrorRequest) -> "MirrorSession":
        """Open both ends, check them, and create the target when there is none.

        Raises:
            InvalidInput: refused; nothing was touched, and a file made meanwhile is removed again.
                So it is when the caller is cancelled.
        """
        offer = _make_offer(request.export)
        pair = await _in_thread(
            lambda: open_pair(request), undo=lambda got: undo_pair(request, got)
        )
        try:
            session = cls(request, pair)
        except MemoryError:
            await _in_thread(lambda: undo_pair(request, pair))
            raise _too_fine(request, pair.source.size) from None
        if offer is not None:
            try:
                await _in_thread(lambda: offer.start(session.drive, session.job))
            except BaseException:
                await session.close()
                session.delete_incomplete_target()
                raise
            session.offer = offer
        return session

    @property
    def export_uri(self) -> str:
        """What guests open; empty without an export."""
        return self.offer.uri if self.offer is not None else ""

    def clients(self) -> "tuple[ConnectionStatistics, ...]":
        """Look at the guests' connections, the oldest first."""
        return self.offer.clients() if self.offer is not None else ()

    def start(self) -> None:
        """Let the job begin."""
        self.job.start()
        self._watch()

    def _watch(self) -> None:
        """Look at the target's length now and then: later writes can hide that it was cut."""
        if not self._closed and self.job.status in WORKING:
            self._presence.sample()
            asyncio.get_running_loop().call_later(WATCH_S, self._watch)

    async def wait(self) -> JobSnapshot:
        """Return the job's last snapshot when it has concluded. Looks after the target then."""
        final = await self.job.wait()
        await self.look_after_target()
        return final

    async def look_after_target(self) -> str:
        """See whether the target's file is still there and whole; returns ``target_loss``."""
        async with self._looking:
            if not self._closed and not self._target_released:
                self.target_loss = await _in_thread(self._presence.loss)
        return self.target_loss

    async def release_unused(self) -> None:
        """Wait for the job's end, then close the image that guests do not use; they go on.

        After a switch that is the source, otherwise the target: others may have it from then on.
        Idempotent.
        """
        await self.job.wait()
        async with self._looking:
            if self._closed:
                return
            switched = self.drive.node is self.target
            self._target_released = not switched
            await _in_thread((self.source if switched else self.target).close)

    async def close(self) -> None:
        """Cancel a job that still works, disconnect guests, release everything. Idempotent."""
        if self._closed:
            return
        self._closed = True
        await self.job.shut_down()
        async with self._looking:
            await _in_thread(self._release)

    def _release(self) -> None:
        if self.offer is not None and not self.offer.stop():
            # A request hangs in a node. Closing that node under it could let its descriptor's
            # number become another file's.
            logger.error("clients still wait for %s; it stays open", self.drive.name)
            return
        self.source.close()
        self.target.close()

    def delete_incomplete_target(self) -> bool:
        """Delete the target when this session made it and it is no usable copy; say whether.

        Call it after ``close``, or after ``release_unused``.
        """
        usable = self.job.snapshot().outcome in (Outcome.SWITCHED, Outcome.FINISHED)
        return not usable and remove_created(self.request, self._pair.created)

    def _pivot(self, target: BlockNode) -> None:
        """Put the target in the source's place, unless guests would write where nobody looks.

        Raises:
            JobFailed: somebody removed or replaced the target's file; guests stay on the source.
        """
        loss = self._presence.loss()
        if loss:
            raise JobFailed(loss)
        self.drive.exchange(target)

    def _on_event(self, event: JobEvent) -> None:
        """End the job by itself when that was asked for."""
        if event.name == "JOB_STATUS_CHANGE" and not self._closed:
            self._presence.sample()  # before writes begin again after a pause
        if event.name != "BLOCK_JOB_READY":
            return
        if self.request.when_ready is WhenReady.COMPLETE:
            self.job.complete()
        elif self.request.when_ready is WhenReady.CANCEL:
            self.job.cancel()


def _make_offer(export: ExportRequest | None) -> "Offer | None":
    """Check how the source is to be exported; nothing listens yet.

    Raises:
        InvalidInput: the URI or its certificates make no sense.
    """
    if export is None:
        return None
    from mirrorgui.offer import Offer

    return Offer(export.uri, read_only=export.read_only, allow_remote=export.allow_remote)


def _too_fine(request: MirrorRequest, size: int) -> InvalidInput:
    granularity = request.options.granularity
    text = f"the maps of an image of {size} bytes do not fit into memory; choose a coarser one"
    return InvalidInput("granularity", granularity or "default", text)


async def _in_thread(function: Callable[[], T], *, undo: Callable[[T], object] | None = None) -> T:
    """Call something that blocks; awaited to its end also when the caller is cancelled.

    The loop's executor is not used: on a Qt loop its first use starts ten threads that wait for
    the end of the program.

    Args:
        function: what to call.
        undo: called in a thread with the result when nobody gets it any more.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def work() -> None:
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001 - a border: the caller gets it
            loop.call_soon_threadsafe(future.set_exception, error)
        else:
            loop.call_soon_threadsafe(future.set_result, result)

    thread = threading.Thread(target=work, name="session")
    thread.start()
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        while not future.done():
            with contextlib.suppress(asyncio.CancelledError):  # once is enough
                await asyncio.wait([future])
        if future.exception() is None and undo is not None:
            result = future.result()
            await _in_thread(lambda: undo(result))
        raise
    finally:
        thread.join()
