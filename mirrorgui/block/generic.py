"""The generic options of every block node: discard, detect-zeroes, cache.no-flush."""

import numpy as np

from mirrorgui.block.checks import check_change
from mirrorgui.block.filter import FilterNode
from mirrorgui.block.node import BlockNode, Buffer


class GenericOptionsNode(FilterNode):
    """Apply QEMU's generic options to the node below. It shows that node's driver and names.

    Args:
        child: the node below; closed together with this one.
        discard: ``unmap`` passes discards on and lets zeroing give storage back, ``ignore`` not.
        detect_zeroes: ``on`` turns written zeroes into ``write_zeroes``, ``unmap`` also gives
            their storage back, ``off`` writes them.
        no_flush: forget flushes: faster, and a crash of the host destroys the image.
    """

    def __init__(
        self, child: BlockNode, *, discard: str, detect_zeroes: str, no_flush: bool
    ) -> None:
        super().__init__(child, node_name=child.node_name)
        self.driver = child.driver
        self._discard = discard == "unmap"
        self._detect_zeroes = detect_zeroes != "off"
        self._unmap_detected = detect_zeroes == "unmap" and self._discard
        self._no_flush = no_flush

    def write(self, offset: int, data: Buffer) -> None:
        """See ``BlockNode.write``."""
        if self._detect_zeroes and len(data) and not np.frombuffer(data, np.uint8).any():
            self.child.write_zeroes(offset, len(data), may_unmap=self._unmap_detected)
        else:
            self.child.write(offset, data)

    def write_zeroes(self, offset: int, length: int, *, may_unmap: bool = True) -> None:
        """See ``BlockNode.write_zeroes``."""
        self.child.write_zeroes(offset, length, may_unmap=may_unmap and self._discard)

    def discard(self, offset: int, length: int) -> None:
        """See ``BlockNode.discard``."""
        check_change(self, "discard", offset, length)
        if self._discard:
            self.child.discard(offset, length)

    def flush(self) -> None:
        """See ``BlockNode.flush``."""
        if not self._no_flush:
            self.child.flush()
