"""The length of an image's file: it grows ahead of what is handed out, where it can."""

import contextlib
import errno

from mirrorgui.block.node import BlockNode
from mirrorgui.block.qcow2.layout import MAX_HOST_OFFSET
from mirrorgui.errors import BlockIOError
from mirrorgui.units import MiB, align_up

_STEP = 16 * MiB
"""The file grows in such steps, so that not every write asks for it; closing trims the rest."""


class Growth:
    """Lets a file be as long as its clusters need.

    Args:
        file: the node that stores the image.
        cluster_bits: logarithm of the cluster size.

    Attributes:
        fixed: it is known not to grow: a device.
        first_size: its length in bytes when it was opened; it never becomes shorter.

    Concurrency: none of its own; the caller holds the node's metadata lock.
    """

    def __init__(self, file: BlockNode, cluster_bits: int) -> None:
        self._file = file
        self._bits = cluster_bits
        self.fixed = False
        self.first_size = file.size

    @property
    def limit(self) -> int:
        """First cluster that does not fit into the file as it is."""
        return self._file.size >> self._bits

    def reach(self, cluster: int) -> None:
        """Let the file be long enough for everything before a cluster.

        Raises:
            BlockIOError: ENOSPC or EFBIG when it cannot; the file may be longer than before.
        """
        end = cluster << self._bits
        if end <= self._file.size:
            return
        if end > MAX_HOST_OFFSET:
            text = "no cluster can be further back in the file"
            raise BlockIOError("write", end, 0, errno.EFBIG, self._file.name, detail=text)
        if not self.fixed:
            try:
                self._resize(end)
            except BlockIOError as error:
                if error.errno != errno.EOPNOTSUPP:
                    raise
                self.fixed = True
        if end > self._file.size:
            raise self.full()

    def trim(self, cluster: int) -> None:
        """Cut off what the file has grown beyond what is before a cluster.

        Raises:
            BlockIOError: it is as long as before.
        """
        end = max(cluster << self._bits, self.first_size)
        if not self.fixed and self._file.size > end:
            self._file.resize(end)

    def full(self) -> BlockIOError:
        """Return the error that says that there is no room."""
        return BlockIOError("write", self._file.size, 0, errno.ENOSPC, self._file.name)

    def _resize(self, end: int) -> None:
        with contextlib.suppress(BlockIOError):  # a limit between the two: see what is possible
            self._file.resize(align_up(end, max(_STEP, 1 << self._bits)))
        if self._file.size < end:
            self._file.resize(end)
