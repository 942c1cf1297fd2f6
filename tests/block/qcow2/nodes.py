"""A file in memory that grows, and tells what was done to it."""

import errno

from mirrorgui.block.checks import check_range
from mirrorgui.block.node import BlockNode, Buffer
from mirrorgui.errors import BlockIOError


class ByteFile(BlockNode):
    """Sparse bytes; ``log`` holds (operation, offset, length). A fixed one does not grow."""

    driver = "bytes"
    name = "bytes"

    def __init__(self, content: Buffer = b"", *, fixed: bool = False) -> None:
        self._bytes = bytearray(content)  # zeroes behind it, up to the size
        self.size = len(content)
        self.fixed = fixed
        self.log: list[tuple[str, int, int]] = []

    @property
    def content(self) -> bytes:
        return bytes(self._bytes) + bytes(self.size - len(self._bytes))

    def patch(self, offset: int, data: bytes) -> None:
        """Change bytes without a trace in the log."""
        if offset + len(data) > len(self._bytes):
            self._bytes += bytes(offset + len(data) - len(self._bytes))
        self._bytes[offset : offset + len(data)] = data

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        check_range(self, "read", offset, len(buffer))
        there = self._bytes[offset : offset + len(buffer)]
        buffer[:] = there + bytes(len(buffer) - len(there))

    def write(self, offset: int, data: Buffer) -> None:
        check_range(self, "write", offset, len(data))
        self.log.append(("write", offset, len(data)))
        self.patch(offset, bytes(data))

    def write_zeroes(self, offset: int, length: int, *, may_unmap: bool = True) -> None:
        self.write(offset, bytes(length))

    def discard(self, offset: int, length: int) -> None:
        check_range(self, "discard", offset, length)
        self.log.append(("discard", offset, length))

    def flush(self) -> None:
        self.log.append(("flush", 0, 0))

    def resize(self, size: int) -> None:
        if self.fixed:
            raise BlockIOError("resize", size, 0, errno.EOPNOTSUPP, self.name)
        del self._bytes[size:]
        self.size = size

    def close(self) -> None:
        pass
