"""A node with nothing in it: reads zeroes, forgets writes. QEMU's ``null-co``."""

import time

from mirrorgui.block.checks import check_change, check_range
from mirrorgui.block.node import BlockLimits, BlockNode, Buffer, Extent, ExtentKind
from mirrorgui.units import GiB

DEFAULT_SIZE = 1 * GiB
"""QEMU's default, in bytes."""


class NullNode(BlockNode):
    """Read zeroes, forget writes.

    Args:
        size: length in bytes.
        latency_ns: how long each request takes, in nanoseconds.
        node_name: its name among nodes.
        read_only: refuse every changing request.
    """

    driver = "null-co"
    limits = BlockLimits(can_zero=True, can_discard=True)

    def __init__(
        self,
        size: int = DEFAULT_SIZE,
        *,
        latency_ns: int = 0,
        node_name: str = "",
        read_only: bool = False,
    ) -> None:
        self.size = size
        self.name = "null-co://"
        self.node_name = node_name
        self.read_only = read_only
        self._latency = latency_ns / 1e9
        self.reads_wait = self.writes_wait = latency_ns > 0

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        """See ``BlockNode.read_into``."""
        check_range(self, "read", offset, len(buffer))
        self._wait()
        buffer[:] = bytes(len(buffer))

    def write(self, offset: int, data: Buffer) -> None:
        """See ``BlockNode.write``. The bytes are gone."""
        check_change(self, "write", offset, len(data))
        self._wait()

    def write_zeroes(self, offset: int, length: int, *, may_unmap: bool = True) -> None:  # noqa: ARG002
        """See ``BlockNode.write_zeroes``."""
        check_change(self, "write_zeroes", offset, length)
        self._wait()

    def discard(self, offset: int, length: int) -> None:
        """See ``BlockNode.discard``."""
        check_change(self, "discard", offset, length)
        self._wait()

    def flush(self) -> None:
        """See ``BlockNode.flush``."""
        self._wait()

    def close(self) -> None:
        """See ``BlockNode.close``."""

    def extents(self, offset: int, length: int) -> list[Extent]:
        """See ``BlockNode.extents``."""
        check_range(self, "extents", offset, length)
        return [Extent(offset, length, ExtentKind.ZERO)] if length else []

    def _wait(self) -> None:
        if self._latency:
            time.sleep(self._latency)
