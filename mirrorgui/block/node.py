"""The contract that every image driver keeps.

A node is a fixed number of bytes that can be read and written at any offset. Calls block, may come
from any thread at once, have no seek position, and do all or raise ``BlockIOError``.
"""

import enum
import errno
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from mirrorgui.errors import BlockIOError

Buffer: TypeAlias = bytes | bytearray | memoryview

Range: TypeAlias = tuple[int, int]
"""Offset and length in bytes."""


class ExtentKind(enum.Enum):
    """What a node knows about a range without reading it."""

    DATA = "data"
    """Bytes are stored in this node."""
    ZERO = "zero"
    """Reads as zeroes, and this node says so itself."""
    UNALLOCATED = "unallocated"
    """This node says nothing: the backing node decides, or zeroes where there is none."""


class Extent(NamedTuple):
    """A run of one kind: ``length`` bytes from ``offset``, both guest bytes of the node."""

    offset: int
    length: int
    kind: ExtentKind

    @property
    def end(self) -> int:
        """First byte behind the run."""
        return self.offset + self.length


@dataclass(frozen=True, slots=True)
class Mapped:
    """Where a run of guest bytes is stored, byte for byte.

    Attributes:
        offset, length: the run, in guest bytes of the node that was asked.
        file: the node that stores it.
        host_offset: where it begins there, in bytes.
    """

    offset: int
    length: int
    file: "BlockNode"
    host_offset: int


@dataclass(frozen=True, slots=True)
class BlockLimits:
    """What a node asks for and what it can do. All lengths in bytes.

    Attributes:
        request_alignment: offsets and lengths of fast requests are multiples of it. The node
            accepts every other request as well, by reading and writing around it.
        cluster_size: unit of allocation, or 0 where the format has none.
        can_zero: ``write_zeroes`` is much cheaper than writing zeroes.
        can_discard: ``discard`` gives storage back.
        max_transfer: longest useful single request, or 0 for no limit.
        latency_bound: a request mostly waits for something other than this machine's processors,
            so many should be in flight at once (a network).
        gathers: scattered ranges cost much less by ``read_ranges`` and ``write_ranges`` than one
            after the other.
    """

    request_alignment: int = 1
    cluster_size: int = 0
    can_zero: bool = False
    can_discard: bool = False
    max_transfer: int = 0
    latency_bound: bool = False
    gathers: bool = False


class BlockNode(ABC):
    """An open image.

    Attributes:
        name: what a person would recognise it by, such as its path or URI.
        node_name: its name among nodes, for QMP; may be empty.
        driver: QEMU's name of the driver: ``file``, ``raw``, ``nbd``, ...
        size: length in bytes; fixed while the node is open, but for ``resize``.
        read_only: every changing request is refused with EPERM when true.
        limits: see ``BlockLimits``.
        backing: the node that holds what this one leaves unallocated, if any.
        unopened_backing: the backing file that the image names while none is open: what it leaves
            unallocated reads as zeroes until ``open_backing``. Empty where that is not so.
        reads_wait: a read may wait for a device or a peer, so that whoever has several of them
            better issues them from several threads; ``try_read_into`` tells for one read.
        writes_wait: the same for changing requests. Both may change while the node is open.

    Concurrency: every method may be called from any thread, also while others run. Requests that
    overlap while one of them writes have an undefined order, as on a disk.
    """

    name: str = ""
    node_name: str = ""
    driver: str = ""
    size: int
    read_only: bool = False
    limits: BlockLimits = BlockLimits()
    backing: "BlockNode | None" = None
    unopened_backing: str = ""
    reads_wait: bool = False
    writes_wait: bool = False

    @abstractmethod
    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        """Fill ``buffer`` with the ``len(buffer)`` bytes from ``offset``.

        Raises:
            BlockIOError: nothing is promised about the content of ``buffer``.
        """

    def try_read_into(self, offset: int, buffer: bytearray | memoryview) -> bool:  # noqa: ARG002
        """Fill ``buffer`` as ``read_into`` does, if that needs no waiting for a device or a peer.

        Returns:
            Whether it was done. Otherwise nothing is promised about the content of ``buffer``.

        Raises:
            BlockIOError: as for ``read_into``.
        """
        return False

    def prefetch(self, offset: int, length: int) -> bool:  # noqa: ARG002
        """Begin to bring a range near, so that reading it soon waits less. Returns at once.

        Returns:
            Whether it was begun, so that several prefetched ranges are waited for at the same
            time even when one thread reads them one after the other. Never raises.
        """
        return False

    def read_ranges(self, ranges: Sequence[Range], buffer: memoryview) -> None:
        """Fill ``buffer`` with the bytes of several ranges, one behind the other.

        Raises:
            BlockIOError: nothing is promised about the content of ``buffer``. Which of the ranges
                could not be read is not always told.
        """
        start = 0
        for offset, length in ranges:
            self.read_into(offset, buffer[start : start + length])
            start += length

    def write_ranges(self, ranges: Sequence[Range], data: memoryview) -> None:
        """Write ``data`` to several ranges that do not overlap; it has the bytes of each in turn.

        Raises:
            BlockIOError: any part of any of the ranges may hold old, new or no defined bytes.
        """
        start = 0
        for offset, length in ranges:
            self.write(offset, data[start : start + length])
            start += length

    @abstractmethod
    def write(self, offset: int, data: Buffer) -> None:
        """Write all of ``data`` at ``offset``.

        Raises:
            BlockIOError: any part of the range may hold old, new or no defined bytes.
        """

    @abstractmethod
    def write_zeroes(self, offset: int, length: int, *, may_unmap: bool = True) -> None:
        """Make the range read as zeroes, with storage given back where that is allowed and can be.

        Raises:
            BlockIOError: as for ``write``.
        """

    @abstractmethod
    def discard(self, offset: int, length: int) -> None:
        """Say that the content is no longer needed. It may read as anything afterwards.

        A node that cannot discard does nothing. For content that must read as zeroes use
        ``write_zeroes``.
        """

    @abstractmethod
    def flush(self) -> None:
        """Return only when every finished write is on stable storage."""

    @abstractmethod
    def close(self) -> None:
        """Release everything. Idempotent. No other call may be running or follow."""

    def extents(self, offset: int, length: int) -> list[Extent]:
        """Tell what is known about a range, as adjacent runs that cover it exactly.

        Never claims zeroes that may be data. May be one run of DATA where nothing is known.
        Neighbouring runs may be of the same kind.

        Raises:
            BlockIOError: with operation ``extents``.
        """
        return [Extent(offset, length, ExtentKind.DATA)] if length else []

    def map(self, offset: int, length: int) -> list[Mapped]:  # noqa: ARG002
        """Tell which parts of a range are stored plainly in a file, in order of their offset.

        What is missing in the answer is not stored so, or not known: it has to be read. An answer
        holds until the next change of that range.

        Raises:
            BlockIOError: with operation ``extents``.
        """
        return []

    def clone_from(
        self,
        offset: int,  # noqa: ARG002
        other: "BlockNode",  # noqa: ARG002
        other_offset: int,  # noqa: ARG002
        length: int,  # noqa: ARG002
    ) -> bool:
        """Let a range share the storage of another node's range, so that nothing is copied.

        Both stay independent: who writes to one of them later gets storage of its own.

        Returns:
            Whether it was done; otherwise nothing has changed, and it will hardly work elsewhere.

        Raises:
            BlockIOError: as for ``write``.
        """
        return False

    def resize(self, size: int) -> None:
        """Change the length in bytes: what a format's file does when its image grows.

        New bytes read as zeroes. Safe while other requests run, unless it cuts what they use.

        Raises:
            BlockIOError: with operation ``resize``; EOPNOTSUPP where it cannot be done. The length
                is as before.
        """
        raise BlockIOError("resize", size, 0, errno.EOPNOTSUPP, self.name)

    def open_backing(self) -> None:  # noqa: B027 - most nodes have no other one below them
        """Open the backing file that the image names, which was left aside when it was opened.

        Afterwards ``backing`` is set and ``unopened_backing`` empty. Does nothing where that is so
        already. No other request may be running.

        Raises:
            ImageRefused: it cannot be opened; nothing has changed.
        """

    def check_backing(self) -> None:  # noqa: B027 - most nodes have no other one below them
        """See that ``open_backing`` would succeed now: open what it would open, and close it again.

        Safe while other requests run.

        Raises:
            ImageRefused: it would not.
        """

    def cancel_in_flight(self) -> None:  # noqa: B027 - most nodes have nothing to give up
        """Make requests that hang return soon with ``RequestCancelled``, where that is possible."""


def chain_extents(node: BlockNode, offset: int, length: int) -> list[Extent]:
    """Return what a guest reads in a range, the whole backing chain seen: runs of DATA or ZERO.

    Raises:
        BlockIOError: from any node of the chain.
    """
    runs = node.extents(offset, length)
    if all(run.kind is not ExtentKind.UNALLOCATED for run in runs):
        return runs
    found: list[Extent] = []
    for run in runs:
        if run.kind is not ExtentKind.UNALLOCATED:
            found.append(run)
        elif node.backing is None or run.offset >= node.backing.size:
            found.append(Extent(run.offset, run.length, ExtentKind.ZERO))
        else:
            below = min(run.end, node.backing.size) - run.offset
            found += chain_extents(node.backing, run.offset, below)
            if below < run.length:  # an overlay longer than its backing reads zeroes there
                found.append(Extent(run.offset + below, run.length - below, ExtentKind.ZERO))
    return found
