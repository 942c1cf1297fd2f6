"""The feature bits in the file's header, changed one by one while the image is open."""

import threading

from mirrorgui.block.node import BlockNode
from mirrorgui.block.qcow2.features import Autoclear, Incompatible
from mirrorgui.block.qcow2.header import INCOMPATIBLE_AT, Header

_AUTOCLEAR_AT = INCOMPATIBLE_AT + 16


class FeatureBits:
    """What the header says now. Version 2 has no bits: nothing is written there.

    Args:
        file: the node that stores the image.
        header: as it was read.
    """

    def __init__(self, file: BlockNode, header: Header) -> None:
        self._file = file
        self._has_bits = header.version >= 3
        self._lock = threading.Lock()
        self.incompatible = header.incompatible
        self.autoclear = header.autoclear

    def set(self, bits: Incompatible) -> None:
        """Set incompatible bits; without a flush.

        Raises:
            BlockIOError: the file may say so or not.
        """
        with self._lock:
            self._write_incompatible(self.incompatible | bits)

    def clear(self, bits: Incompatible) -> None:
        """Clear incompatible bits; without a flush.

        Raises:
            BlockIOError: the file may say so or not.
        """
        with self._lock:
            self._write_incompatible(self.incompatible & ~bits)

    def keep_autoclear(self, kept: Autoclear) -> bool:
        """Clear all autoclear bits but these; without a flush. Return whether there were others.

        Raises:
            BlockIOError: the file may say so or not.
        """
        with self._lock:
            new = self.autoclear & kept
            if new == self.autoclear:
                return False
            self._file.write(_AUTOCLEAR_AT, int(new).to_bytes(8, "big"))
            self.autoclear = new
            return True

    def _write_incompatible(self, new: Incompatible) -> None:
        if self._has_bits and new != self.incompatible:
            self._file.write(INCOMPATIBLE_AT, int(new).to_bytes(8, "big"))
            self.incompatible = new
