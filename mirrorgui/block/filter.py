"""A node over another one: everything passes through unless a subclass says otherwise."""

from mirrorgui.block.node import BlockNode, Buffer, Extent


class FilterNode(BlockNode):
    """Pass every request on to the node below, which is closed together with this one.

    Args:
        child: the node below.
        name: for messages; the child's by default.
        node_name: its name among nodes.

    Attributes:
        child: the node below.
    """

    def __init__(self, child: BlockNode, *, name: str | None = None, node_name: str = "") -> None:
        self.child = child
        self.name = child.name if name is None else name
        self.node_name = node_name
        self.size = child.size
        self.read_only = child.read_only
        self.limits = child.limits
        self.backing = child.backing
        self.unopened_backing = child.unopened_backing
        self.reads_wait = child.reads_wait
        self.writes_wait = child.writes_wait

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        """See ``BlockNode.read_into``."""
        self.child.read_into(offset, buffer)

    def try_read_into(self, offset: int, buffer: bytearray | memoryview) -> bool:
        """See ``BlockNode.try_read_into``."""
        return self.child.try_read_into(offset, buffer)

    def prefetch(self, offset: int, length: int) -> bool:
        """See ``BlockNode.prefetch``."""
        return self.child.prefetch(offset, length)

    def write(self, offset: int, data: Buffer) -> None:
        """See ``BlockNode.write``."""
        self.child.write(offset, data)

    def write_zeroes(self, offset: int, length: int, *, may_unmap: bool = True) -> None:
        """See ``BlockNode.write_zeroes``."""
        self.child.write_zeroes(offset, length, may_unmap=may_unmap)

    def discard(self, offset: int, length: int) -> None:
        """See ``BlockNode.discard``."""
        self.child.discard(offset, length)

    def flush(self) -> None:
        """See ``BlockNode.flush``."""
        self.child.flush()

    def close(self) -> None:
        """See ``BlockNode.close``."""
        self.child.close()

    def resize(self, size: int) -> None:
        """See ``BlockNode.resize``."""
        self.child.resize(size)
        self.size = self.child.size

    def extents(self, offset: int, length: int) -> list[Extent]:
        """See ``BlockNode.extents``."""
        return self.child.extents(offset, length)

    def open_backing(self) -> None:
        """See ``BlockNode.open_backing``."""
        self.child.open_backing()
        self.backing = self.child.backing
        self.unopened_backing = self.child.unopened_backing

    def check_backing(self) -> None:
        """See ``BlockNode.check_backing``."""
        self.child.check_backing()

    def cancel_in_flight(self) -> None:
        """See ``BlockNode.cancel_in_flight``."""
        self.child.cancel_in_flight()
