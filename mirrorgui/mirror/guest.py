"""What the mirror does with a guest's write: track it, or bring it to the target at once.

Both keep the one rule on which everything rests: **a chunk is marked dirty after the write has
reached the source, whether it succeeded or not, and before the guest is answered**. The job clears
a bit before it reads, so a mark that came earlier could be cleared by a copy of the old bytes.
"""

from collections.abc import Callable
from typing import Protocol

from mirrorgui.block.node import BlockNode, ExtentKind, chain_extents
from mirrorgui.errors import BlockIOError
from mirrorgui.mirror.bitmap import DirtyBitmap
from mirrorgui.mirror.clusters import TargetClusters
from mirrorgui.mirror.drive import Request
from mirrorgui.mirror.ranges import RangeLock
from mirrorgui.units import MiB

DISCARD_COPY_STEP = 1 * MiB
"""A discarded range that does not read as zeroes is brought over in pieces of this size."""


class GuestListener(Protocol):
    """Where the hooks tell what happened; called from guest threads, must be quick."""

    def guest_dirtied(self, length: int) -> None:
        """``length`` bytes became dirty (0 when they were dirty before)."""

    def guest_mirrored(self, offset: int, length: int) -> None:
        """A range was brought to the target at once."""

    def guest_target_failed(self, error: BlockIOError) -> None:
        """The target refused a guest's write. Its range is marked dirty by now."""


class Tracking:
    """Background mode: the write goes to the source, the job copies the chunk later."""

    writes_wait = False

    def __init__(self, dirty: DirtyBitmap, listener: GuestListener) -> None:
        self._dirty = dirty
        self._listener = listener

    def guest_write(self, node: BlockNode, offset: int, length: int, request: Request) -> None:
        """Carry the request out, then mark its chunks."""
        try:
            request(node)
        finally:
            # A failed write may have changed any part of the range.
            self._listener.guest_dirtied(self._dirty.mark(offset, length))

    def guest_discard(self, node: BlockNode, offset: int, length: int) -> None:
        """Discard, then mark: the target must read as the source reads now."""
        self.guest_write(node, offset, length, lambda each: each.discard(offset, length))


class WriteBlocking:
    """Write-blocking mode: a write is answered when both images have it.

    The range is claimed first, so that the job copies none of it meanwhile and two writes to the
    same bytes reach both images in the same order. Where the target has a backing file that is not
    open, a write that is the first to one of its clusters takes the rest of the cluster with it.

    Attributes:
        passive: only track, as in background mode: the job is paused, or its target is gone.
    """

    def __init__(
        self,
        dirty: DirtyBitmap,
        target_data: DirtyBitmap,
        ranges: RangeLock,
        target: BlockNode,
        listener: GuestListener,
        clusters: TargetClusters | None = None,
    ) -> None:
        self._dirty = dirty
        self._target_data = target_data
        self._ranges = ranges
        self._target = target
        self._listener = listener
        self._clusters = clusters
        self.passive = False

    @property
    def writes_wait(self) -> bool:
        """Whether the target makes a guest's write wait."""
        return self._target.writes_wait

    def guest_write(self, node: BlockNode, offset: int, length: int, request: Request) -> None:
        """Carry the request out on the source, then on the target."""
        self._mirrored(node, offset, length, request, lambda: request(self._target))

    def guest_discard(self, node: BlockNode, offset: int, length: int) -> None:
        """Discard on the source, then make the target read as the source reads now.

        What a discarded range reads as is the node's own affair, so the target cannot simply be
        told to discard.
        """
        self._mirrored(
            node,
            offset,
            length,
            lambda each: each.discard(offset, length),
            lambda: self._bring_over(node, offset, length),
        )

    def _mirrored(
        self,
        node: BlockNode,
        offset: int,
        length: int,
        request: Request,
        to_target: Callable[[], None],
    ) -> None:
        if not length:
            request(node)
            return
        start, end = offset, offset + length
        if self._clusters is not None:
            start, end = self._clusters.round_out(offset, length)
        with self._ranges.guest_claim(start, end - start):
            try:
                request(node)
            except BaseException:
                self._listener.guest_dirtied(self._dirty.mark(offset, length))
                raise
            if self.passive:
                self._listener.guest_dirtied(self._dirty.mark(offset, length))
                return

            def all_of_it() -> None:
                to_target()
                # What the target's driver has filled the rest of a new cluster with is not it.
                self._bring_over(node, start, offset - start)
                self._bring_over(node, offset + length, end - offset - length)

            self._reach_target(start, end - start, all_of_it)

    def _reach_target(self, offset: int, length: int, to_target: Callable[[], None]) -> None:
        """Bring the write to the target; a failure there marks its chunks and is not the guest's.

        Chunks that the write covers in part stay dirty if they were: the job brings the rest.
        """
        self._target_data.mark(offset, length)
        try:
            to_target()
        except BlockIOError as error:
            self._listener.guest_dirtied(self._dirty.mark(offset, length))
            self._listener.guest_target_failed(error)
        except BaseException:
            self._listener.guest_dirtied(self._dirty.mark(offset, length))
            raise
        else:
            self._dirty.clear(offset, length)
            if self._clusters is not None:
                self._clusters.arrived(offset, length)
            self._listener.guest_mirrored(offset, length)

    def _bring_over(self, node: BlockNode, offset: int, length: int) -> None:
        """Make a range of the target read as the source reads now."""
        for run in chain_extents(node, offset, length):
            if run.kind is ExtentKind.ZERO:
                self._target.write_zeroes(run.offset, run.length, may_unmap=True)
                continue
            for start in range(run.offset, run.end, DISCARD_COPY_STEP):
                piece = bytearray(min(DISCARD_COPY_STEP, run.end - start))
                node.read_into(start, piece)
                self._target.write(start, piece)
