"""A mirror put together: both ends opened and checked, the drive, the job, and its end.

The only room that knows everybody. The window, the command line and QMP stand on it.
"""

import asyncio
import enum
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mirrorgui.block.create import create_raw
from mirrorgui.block.identity import identify_node, identify_path
from mirrorgui.block.node import BlockNode
from mirrorgui.block.open import How, open_image
from mirrorgui.block.raw import RawNode
from mirrorgui.block.safety import Finding, check_pair, refuse_if_unsafe
from mirrorgui.block.spec import local_path
from mirrorgui.errors import ImageRefused, InvalidInput
from mirrorgui.mirror.drive import Drive
from mirrorgui.mirror.events import EventLog, JobEvent
from mirrorgui.mirror.job import MirrorJob
from mirrorgui.mirror.options import MirrorOptions
from mirrorgui.mirror.snapshot import JobSnapshot, Outcome
from mirrorgui.units import MiB

if TYPE_CHECKING:
    from mirrorgui.nbd.statistics import ConnectionStatistics
    from mirrorgui.offer import Offer

logger = logging.getLogger(__name__)

WRITE_OUT = 64 * MiB
"""The target's dirty pages are sent to the disk from time to time, so that the flush is short."""

T = TypeVar("T")


class WhenReady(enum.Enum):
    """What to do once the target is in sync."""

    WAIT = "wait"
    COMPLETE = "complete"
    CANCEL = "cancel"
    """Finish without switching."""


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """How the source is offered to guests while it is mirrored.

    Attributes:
        uri: where, as an NBD URI; its path is the export's name.
        read_only: guests may only read.
        allow_remote: a person has agreed that other machines can reach it.
    """

    uri: str
    read_only: bool = False
    allow_remote: bool = False


@dataclass(frozen=True, slots=True)
class MirrorRequest:
    """What a person or a program asks for.

    Attributes:
        source, target: a path, a device, a URI or ``json:{...}``.
        source_format: QEMU's name of the format; None recognises it.
        target_format: the same; for a new file None takes the source's.
        overwrite: the person agreed that an existing target's content is lost.
        writable: somebody in this process writes to the source through the session's drive.
        export: offer the source to guests; None does not.
        when_ready: what to do once in sync.
        options: the job's arguments.
    """

    source: str
    target: str
    source_format: str | None = None
    target_format: str | None = None
    overwrite: bool = False
    writable: bool = False
    export: ExportRequest | None = None
    when_ready: WhenReady = WhenReady.WAIT
    options: MirrorOptions = field(default_factory=MirrorOptions)

    @property
    def opens_writable(self) -> bool:
        """Whether the source is opened for writing: only when a guest may write to it."""
        return self.writable or (self.export is not None and not self.export.read_only)


def check_request(request: MirrorRequest) -> list[Finding]:
    """Say everything about a pair of images that can be known without opening them for writing.

    Blocks: it reads headers and asks the system. A finding of severity ``refuse`` makes ``open``
    fail; ``confirm`` does so unless ``overwrite`` is set.

    Raises:
        InvalidInput: a name or format makes no sense at all.
    """
    source = identify_path(
        request.source, "source", format=request.source_format, writing=request.opens_writable
    )
    target = identify_path(
        request.target, "target", format=request.target_format, writing=True, may_be_missing=True
    )
    return check_pair(source, target)


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
    """

    def __init__(
        self, request: MirrorRequest, source: BlockNode, target: BlockNode, *, target_created: bool
    ) -> None:
        self.request = request
        self.source = source
        self.target = target
        self.target_created = target_created
        self.drive = Drive(source)
        self.events = EventLog()
        self.job = MirrorJob(self.drive, target, request.options, events=self.events)
        self.offer: Offer | None = None
        self._closed = False
        self.events.listen(self._on_event)

    @classmethod
    async def open(cls, request: MirrorRequest) -> "MirrorSession":
        """Open both ends, check them, and create the target when there is none.

        Raises:
            InvalidInput: refused; nothing was touched, and a file made meanwhile is removed again.
        """
        offer = _make_offer(request.export)
        source, target, created = await _in_thread(lambda: _open_both(request))
        session = cls(request, source, target, target_created=created)
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

    async def wait(self) -> JobSnapshot:
        """Return the job's last snapshot when it has concluded."""
        return await self.job.wait()

    async def close(self) -> None:
        """Cancel a job that still works, disconnect guests, release everything. Idempotent."""
        if self._closed:
            return
        self._closed = True
        await self.job.shut_down()
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

        Call it after ``close``.
        """
        usable = self.job.snapshot().outcome in (Outcome.SWITCHED, Outcome.FINISHED)
        path = local_path(self.request.target)
        if not self.target_created or usable or path is None:
            return False
        Path(path).unlink(missing_ok=True)
        return True

    def _on_event(self, event: JobEvent) -> None:
        """End the job by itself when that was asked for."""
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


async def _in_thread(function: Callable[[], T]) -> T:
    """Call something that blocks; awaited to its end also when the caller is cancelled.

    The loop's executor is not used: on a Qt loop its first use starts ten threads that wait for
    the end of the program.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def work() -> None:
        try:
            result = function()
        except Exception as error:  # noqa: BLE001 - a border: the caller gets it
            loop.call_soon_threadsafe(future.set_exception, error)
        else:
            loop.call_soon_threadsafe(future.set_result, result)

    thread = threading.Thread(target=work, name="session")
    thread.start()
    try:
        return await asyncio.shield(future)
    finally:
        if not future.done():
            await asyncio.wait([future])
        thread.join()


def _open_both(request: MirrorRequest) -> tuple[BlockNode, BlockNode, bool]:
    """Open source and target; nothing stays open or created when it fails."""
    values = {"source": request.source, "target": request.target}
    refuse_if_unsafe(check_request(request), values, overwrite=request.overwrite)
    source = open_image(
        request.source,
        format=request.source_format,
        how=How("source", read_only=not request.opens_writable),
    )
    try:
        created = _create_target(request, source)
        try:
            return source, _open_target(request, source), created
        except BaseException:
            if created:
                Path(request.target).unlink(missing_ok=True)
            raise
    except BaseException:
        source.close()
        raise


def _create_target(request: MirrorRequest, source: BlockNode) -> bool:
    """Create the target file when it is a path at which there is nothing; say whether."""
    path = local_path(request.target)
    if path is None or path != request.target or Path(path).exists():
        return False
    if request.target_format not in (None, "raw"):
        raise InvalidInput("target-format", request.target_format, "only raw images can be created")
    create_raw(path, source.size, field="target")
    return True


def _open_target(request: MirrorRequest, source: BlockNode) -> BlockNode:
    target = open_image(
        request.target,
        format=request.target_format,
        how=How("target", write_out=WRITE_OUT),
    )
    try:
        _require_writable(target, request.target)
        # Once more by the open descriptors: names may have changed hands meanwhile.
        found = check_pair(identify_node(source), identify_node(target))
        values = {"source": request.source, "target": request.target}
        refuse_if_unsafe(found, values, overwrite=request.overwrite)
        if target.size > source.size:
            # The rest stays as it is, and guests see no other size after the switch.
            return RawNode(target, size=source.size)
        return target
    except BaseException:
        target.close()
        raise


def _require_writable(target: BlockNode, name: str) -> None:
    if target.read_only:
        raise ImageRefused("target", name, "Block node is read-only")
