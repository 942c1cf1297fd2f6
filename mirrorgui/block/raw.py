"""The raw format: a window on a node below, and the guard of images that were guessed to be raw."""

import errno
import threading

from mirrorgui.block.checks import check_change, check_range
from mirrorgui.block.filter import FilterNode
from mirrorgui.block.formats import HEAD_SIZE, LABELS, recognise_head
from mirrorgui.block.node import BlockNode, Buffer, Extent, Mapped
from mirrorgui.errors import BlockIOError


class RawNode(FilterNode):
    """A part of the node below, byte for byte.

    Args:
        child: the node below; closed together with this one.
        offset: where the part begins, in bytes.
        size: its length in bytes, which stays; by default to the end of the child, with which it
            grows and shrinks.
        name: for messages; the child's by default.
        node_name: its name among nodes.
    """

    driver = "raw"

    def __init__(
        self,
        child: BlockNode,
        *,
        offset: int = 0,
        size: int | None = None,
        name: str | None = None,
        node_name: str = "",
    ) -> None:
        super().__init__(child, name=name, node_name=node_name)
        self.offset = offset
        self._is_fixed = size is not None
        self.size = child.size - offset if size is None else size
        if offset < 0 or self.size < 0 or offset + self.size > child.size:
            raise ValueError("the part is not inside the image")

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        """See ``BlockNode.read_into``."""
        check_range(self, "read", offset, len(buffer))
        self.child.read_into(self.offset + offset, buffer)

    def try_read_into(self, offset: int, buffer: bytearray | memoryview) -> bool:
        """See ``BlockNode.try_read_into``."""
        check_range(self, "read", offset, len(buffer))
        return self.child.try_read_into(self.offset + offset, buffer)

    def prefetch(self, offset: int, length: int) -> bool:
        """See ``BlockNode.prefetch``."""
        return self.child.prefetch(self.offset + offset, length)

    def write(self, offset: int, data: Buffer) -> None:
        """See ``BlockNode.write``."""
        check_change(self, "write", offset, len(data))
        self.child.write(self.offset + offset, data)

    def write_zeroes(self, offset: int, length: int, *, may_unmap: bool = True) -> None:
        """See ``BlockNode.write_zeroes``."""
        check_change(self, "write_zeroes", offset, length)
        self.child.write_zeroes(self.offset + offset, length, may_unmap=may_unmap)

    def discard(self, offset: int, length: int) -> None:
        """See ``BlockNode.discard``."""
        check_change(self, "discard", offset, length)
        self.child.discard(self.offset + offset, length)

    def resize(self, size: int) -> None:
        """See ``BlockNode.resize``. Not where a length was given: what follows is not ours."""
        if self._is_fixed:
            raise BlockIOError("resize", size, 0, errno.EOPNOTSUPP, self.name)
        if size < 0:
            raise BlockIOError("resize", size, 0, errno.EINVAL, self.name)
        self.child.resize(self.offset + size)
        self.size = self.child.size - self.offset

    def extents(self, offset: int, length: int) -> list[Extent]:
        """See ``BlockNode.extents``."""
        check_range(self, "extents", offset, length)
        return [
            Extent(run.offset - self.offset, run.length, run.kind)
            for run in self.child.extents(self.offset + offset, length)
        ]

    def map(self, offset: int, length: int) -> list[Mapped]:
        """See ``BlockNode.map``."""
        check_range(self, "extents", offset, length)
        return [
            Mapped(run.offset - self.offset, run.length, run.file, run.host_offset)
            for run in self.child.map(self.offset + offset, length)
        ]

    def clone_from(self, offset: int, other: BlockNode, other_offset: int, length: int) -> bool:
        """See ``BlockNode.clone_from``."""
        check_change(self, "write", offset, length)
        return self.child.clone_from(self.offset + offset, other, other_offset, length)


class ProbedRawGuard(FilterNode):
    """Keep an image that was guessed to be raw from looking like another format.

    A guest decides what stands in its first sector. Were it to write a qcow2 header with a backing
    file there, the next opening that guesses again would show it any file of the host. So a write
    to the first sector after which another format would be recognised is refused with EPERM, as
    QEMU does it. Naming the format ``raw`` opens the image without this guard.
    """

    driver = "raw"

    def __init__(self, child: BlockNode) -> None:
        super().__init__(child, node_name=child.node_name)
        self._head_lock = threading.Lock()

    def write(self, offset: int, data: Buffer) -> None:
        """See ``BlockNode.write``.

        Raises:
            BlockIOError: also EPERM, with nothing written.
        """
        if offset >= HEAD_SIZE or offset < 0 or not len(data):
            self.child.write(offset, data)
            return
        with self._head_lock:  # two halves of a header, written at the same time, are one
            self._check_head(offset, data)
            self.child.write(offset, data)

    def clone_from(self, offset: int, other: BlockNode, other_offset: int, length: int) -> bool:
        """See ``BlockNode.clone_from``; not where the bytes have to be looked at."""
        if offset < HEAD_SIZE:
            return False
        return self.child.clone_from(offset, other, other_offset, length)

    def _check_head(self, offset: int, data: Buffer) -> None:
        head = bytearray(min(HEAD_SIZE, self.size))
        if offset or len(data) < len(head):
            self.child.read_into(0, head)
        new = bytes(memoryview(data)[: max(0, len(head) - offset)])
        head[offset : offset + len(new)] = new
        found = recognise_head(bytes(head))
        if found != "raw":
            raise BlockIOError(
                "write",
                offset,
                len(data),
                errno.EPERM,
                self.name,
                detail=f"it would make an image that was guessed to be raw look like "
                f"{LABELS[found]}; name the format raw to allow it",
            )
