"""The file in which guest clusters stand, and how it is read and written beyond its end."""

import threading

import numpy as np

from mirrorgui.block.node import BlockNode, Buffer
from mirrorgui.units import align_up


def fill_zeroes(buffer: bytearray | memoryview) -> None:
    """Make a buffer zero without making another one."""
    np.frombuffer(buffer, np.uint8)[:] = 0


class Store:
    """Guest clusters by their host offset.

    Args:
        file: the node that stores them: the image's own, or its data file.
        cluster_size: the file may end inside of the last cluster, which reads as zeroes there.
    """

    def __init__(self, file: BlockNode, cluster_size: int) -> None:
        self.file = file
        self._cluster_size = cluster_size
        self._growing = threading.Lock()

    def read(self, host_offset: int, buffer: bytearray | memoryview) -> None:
        """Fill a buffer; zeroes where the file has ended.

        Raises:
            BlockIOError: from the file.
        """
        there = self.file.size - host_offset
        if there >= len(buffer):
            self.file.read_into(host_offset, buffer)
            return
        view = memoryview(buffer)
        if there > 0:
            self.file.read_into(host_offset, view[:there])
        fill_zeroes(view[max(there, 0) :])

    def write(self, host_offset: int, data: Buffer) -> None:
        """Write, and let the file grow if it is too short.

        Raises:
            BlockIOError: from the file.
        """
        if host_offset + len(data) > self.file.size:
            self.reach(host_offset + len(data))
        self.file.write(host_offset, data)

    def reach(self, end: int) -> None:
        """Let the file be at least so long.

        Raises:
            BlockIOError: it cannot grow.
        """
        with self._growing:
            if end > self.file.size:
                self.file.resize(align_up(end, self._cluster_size))
