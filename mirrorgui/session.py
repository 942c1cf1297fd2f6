"""A mirror put together: both ends opened and checked, the drive, the job, and its end.

The only room that knows everybody. The window, the command line and QMP stand on it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from mirrorgui.block.node import BlockNode
from mirrorgui.block.presence import Presence
from mirrorgui.blocking import in_thread
from mirrorgui.ends import Ends, OpenedEnds
from mirrorgui.errors import InvalidInput, JobFailed
from mirrorgui.graph.nodes import Graph, GraphNode
from mirrorgui.mirror.events import EventLog, JobEvent
from mirrorgui.mirror.job import MirrorJob
from mirrorgui.mirror.snapshot import JobSnapshot, Outcome
from mirrorgui.mirror.states import WORKING, JobStatus
from mirrorgui.pair import OverwriteRefused, check_request, open_pair, undo_pair
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


class MirrorSession:
    """One mirror from opening to closing.

    Args:
        request: what was asked for.
        ends: both images, in their places.

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

    def __init__(self, request: MirrorRequest, ends: Ends) -> None:
        self.request = request
        self.source, self.target = ends.source, ends.target
        self.target_created = ends.created
        self.warnings = ends.warnings
        self.target_loss = ""
        self.drive = ends.placement.drive
        self.events = EventLog()
        self.job = MirrorJob(
            self.drive, self.target, request.options, events=self.events, pivot=self._pivot
        )
        self.offer: Offer | None = None
        self.ends = ends
        self._presence = Presence(self.target)
        self._switched = self._closed = self._target_released = False
        # A look at the target's descriptor must not meet its closing.
        self._looking = asyncio.Lock()
        self.events.listen(self._on_event)

    @classmethod
    async def open(
        cls,
        request: MirrorRequest,
        *,
        graph: Graph | None = None,
        evict: Callable[[Sequence[GraphNode]], Awaitable[None]] | None = None,
    ) -> "MirrorSession":
        """Open both ends, check them, and create the target when there is none.

        Args:
            request: what is asked for.
            graph: where both ends are shown, if anybody looks.
            evict: ends what others do with nodes that are to be closed.

        Raises:
            InvalidInput: refused; nothing was touched, and a file made meanwhile is removed again.
                So it is when the caller is cancelled.
        """
        offer = _make_offer(request.export)
        pair = await in_thread(lambda: open_pair(request), undo=lambda got: undo_pair(request, got))
        ends = OpenedEnds(request, pair, Graph() if graph is None else graph, evict)
        try:
            session = cls(request, ends)
        except MemoryError:
            await ends.release()
            await in_thread(ends.delete_created)
            raise too_fine(request, pair.source.size) from None
        if offer is not None:
            try:
                await in_thread(lambda: offer.start(session.drive, session.job))
            except BaseException:
                await session.close()
                session.delete_incomplete_target()
                raise
            session.offer = offer
        if pair.created is not None:
            await in_thread(pair.created.keep)
        return session

    @property
    def closed(self) -> bool:
        """Whether ``close`` has been called."""
        return self._closed

    @property
    def export_uri(self) -> str:
        """What guests open; empty without an export."""
        return self.offer.uri if self.offer is not None else ""

    def clients(self) -> "tuple[ConnectionStatistics, ...]":
        """Look at the guests' connections, the oldest first."""
        return self.offer.clients() if self.offer is not None else ()

    def forget_offer(self) -> None:
        """Take note that the export to guests is gone: somebody has removed it."""
        self.offer = None

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
                self.target_loss = await in_thread(self._presence.loss)
        return self.target_loss

    async def looked(self) -> None:
        """Wait for a look at the target that has begun.

        Once the target may be closed, because the session is or because others own it and the job
        has concluded, no other one begins.
        """
        async with self._looking:
            pass

    async def release_unused(self) -> None:
        """Wait for the job's end, then close the image that guests do not use; they go on.

        After a switch that is the source, otherwise the target: others may have it from then on.
        Idempotent.
        """
        await self.job.wait()
        if self._closed:
            return
        self._target_released = not self._switched
        await self.looked()
        await self.ends.release_unused(switched=self._switched)

    async def close(self) -> None:
        """Cancel a job that still works, disconnect guests, release everything. Idempotent."""
        if self._closed:
            return
        self._closed = True
        await self.job.shut_down()
        await self.looked()
        if await in_thread(self._stop_offer):
            await self.ends.release()

    def _stop_offer(self) -> bool:
        offer = self.offer
        if offer is None or offer.stop():
            return True
        # A request hangs in a node. Closing that node under it could let its descriptor's
        # number become another file's.
        logger.error("clients still wait for %s; it stays open", self.drive.name)
        return False

    def delete_incomplete_target(self) -> bool:
        """Delete the target when this session made it and it is no usable copy; say whether.

        Call it after ``close``, or after ``release_unused``.
        """
        usable = self.job.snapshot().outcome in (Outcome.SWITCHED, Outcome.FINISHED)
        return not usable and self.ends.delete_created()

    def _pivot(self, target: BlockNode) -> None:  # noqa: ARG002 - the placement knows it
        """Put the target in the source's place, unless guests would write where nobody looks.

        Raises:
            JobFailed: somebody removed or replaced the target's file, or the users of both images
                exclude each other; guests stay on the source.
        """
        loss = self._presence.loss()
        if loss:
            raise JobFailed(loss)
        self.ends.placement.pivot()
        self._switched = True

    def _on_event(self, event: JobEvent) -> None:
        """End the job by itself when that was asked for."""
        is_open = not self._closed and not self._target_released
        if event.name == "JOB_STATUS_CHANGE" and is_open:
            self._presence.sample()  # before writes begin again after a pause
        if event.data.get("status") == JobStatus.CONCLUDED.value:
            self._target_released = self._target_released or not self.ends.owned
            self.ends.conclude()
        if event.name == "JOB_COMPLETE_REFUSED" and self.request.when_ready is WhenReady.COMPLETE:
            self.job.fail(str(event.data["error"]))  # nobody is there to ask again
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


def too_fine(request: MirrorRequest, size: int) -> InvalidInput:
    """Return the refusal of a job whose maps do not fit into memory."""
    granularity = request.options.granularity
    text = f"the maps of an image of {size} bytes do not fit into memory; choose a coarser one"
    return InvalidInput("granularity", granularity or "default", text)
