"""The guest's front door: a node whose writes are tracked and whose image can be exchanged.

Every guest (an NBD connection, the demonstration's writer, a test) goes through a ``Drive``. It
counts who is inside, can hold newcomers back until the insiders have left, and hands writes to the
mirror's hook while there is one.
"""

import threading
import time
from collections.abc import Callable
from typing import Protocol

from mirrorgui.block.node import BlockLimits, BlockNode, Buffer, Extent
from mirrorgui.mirror.snapshot import LATENCY_BUCKETS, GuestStatistics, latency_bucket

Request = Callable[[BlockNode], None]


class WriteHook(Protocol):
    """What the mirror does with a guest's changing request.

    Attributes:
        writes_wait: it may wait for a device or a peer that is not the source.
    """

    @property
    def writes_wait(self) -> bool:
        """See above."""

    def guest_write(self, node: BlockNode, offset: int, length: int, request: Request) -> None:
        """Carry ``request`` out on ``node`` and see to it that the target gets it, now or later.

        Raises:
            BlockIOError: only for what failed on ``node``; the target's troubles are not the
                guest's.
        """

    def guest_discard(self, node: BlockNode, offset: int, length: int) -> None:
        """The same for a discard, after which the content of ``node`` is whatever it is."""


class Drive(BlockNode):
    """A node in front of the node that guests use at the moment.

    Concurrency: guest calls come from any thread. ``hold`` and ``release``, ``attach``, ``detach``
    and ``exchange`` belong to one controlling thread, the job's event loop.
    """

    driver = "drive"

    def __init__(self, node: BlockNode) -> None:
        self._node = node
        self._hook: WriteHook | None = None
        self._gate = threading.Condition(threading.Lock())
        self._held = False
        self._inside = 0
        self._on_empty: Callable[[], None] | None = None
        self._closed = False
        self._reads = self._writes = self._flushes = self._failed = 0
        self._bytes_read = self._bytes_written = 0
        self._latency = [0] * LATENCY_BUCKETS

    # What a node is: taken from the node behind, as it is now.

    @property
    def node(self) -> BlockNode:
        """The node that the next request goes to."""
        return self._node

    @property
    def name(self) -> str:  # type: ignore[override]  # a plain attribute elsewhere, live here
        """Name of the image that guests use at the moment."""
        return self._node.name

    @property
    def size(self) -> int:  # type: ignore[override]
        """Length in bytes; the same on both sides of an exchange."""
        return self._node.size

    @property
    def read_only(self) -> bool:  # type: ignore[override]
        """Whether the node behind refuses writes."""
        return self._node.read_only

    @property
    def limits(self) -> BlockLimits:  # type: ignore[override]
        """Limits of the node behind."""
        return self._node.limits

    @property
    def reads_wait(self) -> bool:  # type: ignore[override]
        """Whether reads of the node behind may wait."""
        return self._node.reads_wait

    @property
    def writes_wait(self) -> bool:  # type: ignore[override]
        """Whether changing requests may wait: for the node behind, or for the mirror's target."""
        hook = self._hook
        return self._node.writes_wait or (hook is not None and hook.writes_wait)

    # The gate.

    def _enter(self) -> int:
        with self._gate:
            while self._held:
                self._gate.wait()
            self._inside += 1
        return time.perf_counter_ns()

    def _leave(self) -> None:
        """Count one request out. The caller holds the gate's lock."""
        self._inside -= 1
        if not self._inside and self._on_empty is not None:
            on_empty, self._on_empty = self._on_empty, None
            on_empty()

    def _done_read(self, started_ns: int, length: int) -> None:
        bucket = latency_bucket(time.perf_counter_ns() - started_ns)
        with self._gate:
            self._reads += 1
            self._bytes_read += length
            self._latency[bucket] += 1
            self._leave()

    def _done_write(self, started_ns: int, length: int) -> None:
        bucket = latency_bucket(time.perf_counter_ns() - started_ns)
        with self._gate:
            self._writes += 1
            self._bytes_written += length
            self._latency[bucket] += 1
            self._leave()

    def _fail(self) -> None:
        with self._gate:
            self._failed += 1
            self._leave()

    # The guest's requests.

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        """Read from the node that guests use at the moment."""
        started_ns = self._enter()
        try:
            self._node.read_into(offset, buffer)
        except BaseException:
            self._fail()
            raise
        self._done_read(started_ns, len(buffer))

    def try_read_into(self, offset: int, buffer: bytearray | memoryview) -> bool:
        """Read as ``read_into`` does, if neither the node nor the gate makes it wait."""
        started_ns = time.perf_counter_ns()
        with self._gate:
            if self._held:
                return False
            self._inside += 1
        try:
            done = self._node.try_read_into(offset, buffer)
        except BaseException:
            self._fail()
            raise
        if done:
            self._done_read(started_ns, len(buffer))
        else:
            with self._gate:
                self._leave()
        return done

    def prefetch(self, offset: int, length: int) -> bool:
        """Ask the node that guests use at the moment, if the gate is open."""
        with self._gate:
            if self._held:
                return False
            self._inside += 1
        try:
            return self._node.prefetch(offset, length)
        finally:
            with self._gate:
                self._leave()

    def write(self, offset: int, data: Buffer) -> None:
        """Write, and return only when the mirror knows of it."""
        self._change(offset, len(data), lambda node: node.write(offset, data))

    def write_zeroes(self, offset: int, length: int, *, may_unmap: bool = True) -> None:
        """Write zeroes, and return only when the mirror knows of it."""
        self._change(
            offset, length, lambda node: node.write_zeroes(offset, length, may_unmap=may_unmap)
        )

    def _change(self, offset: int, length: int, request: Request) -> None:
        started_ns = self._enter()
        try:
            # Read behind the gate: a hook comes and goes only while nobody is inside.
            hook = self._hook
            if hook is None:
                request(self._node)
            else:
                hook.guest_write(self._node, offset, length, request)
        except BaseException:
            self._fail()
            raise
        self._done_write(started_ns, length)

    def discard(self, offset: int, length: int) -> None:
        """Discard, and return only when the mirror knows of it."""
        started_ns = self._enter()
        try:
            hook = self._hook
            if hook is None:
                self._node.discard(offset, length)
            else:
                hook.guest_discard(self._node, offset, length)
        except BaseException:
            self._fail()
            raise
        self._done_write(started_ns, 0)

    def flush(self) -> None:
        """Flush the node that guests use at the moment."""
        self._enter()
        try:
            self._node.flush()
        except BaseException:
            self._fail()
            raise
        with self._gate:
            self._flushes += 1
            self._leave()

    def extents(self, offset: int, length: int) -> list[Extent]:
        """Ask the node that guests use at the moment."""
        self._enter()
        try:
            return self._node.extents(offset, length)
        finally:
            with self._gate:
                self._leave()

    @property
    def backing(self) -> BlockNode | None:  # type: ignore[override]
        """Backing node of the node behind."""
        return self._node.backing

    def close(self) -> None:
        """Nothing to release: the nodes belong to whoever opened them."""

    # The controlling side.

    def attach(self, hook: WriteHook) -> None:
        """Give changing requests to ``hook`` from now on. Call it while guests are held."""
        self._hook = hook

    def detach(self) -> None:
        """Go back to plain requests. Call it while guests are held."""
        self._hook = None

    def exchange(self, node: BlockNode) -> BlockNode:
        """Put ``node`` in the place of the present one, which is returned and stays open.

        Call it while guests are held. The new node must be as long as the old one.
        """
        old, self._node = self._node, node
        return old

    def hold(self, on_empty: Callable[[], None]) -> None:
        """Keep new requests waiting; call ``on_empty`` once when the last insider has left.

        ``on_empty`` may be called at once, by this thread, or later by a guest's.
        """
        with self._gate:
            self._held = True
            if self._inside:
                self._on_empty = on_empty
                return
        on_empty()

    def release(self) -> None:
        """Let waiting and new requests in."""
        with self._gate:
            self._held = False
            self._on_empty = None
            self._gate.notify_all()

    def statistics(self) -> GuestStatistics:
        """Return the totals since the drive was made."""
        with self._gate:
            return GuestStatistics(
                reads=self._reads,
                writes=self._writes,
                flushes=self._flushes,
                bytes_read=self._bytes_read,
                bytes_written=self._bytes_written,
                failed=self._failed,
                in_flight=self._inside,
                latency=tuple(self._latency),
            )
