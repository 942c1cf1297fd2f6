"""An image in memory whose backing file is opened late, as a target's is."""

import threading
from collections.abc import Callable

from mirrorgui.block.memory import MemoryNode
from mirrorgui.block.node import BlockNode
from mirrorgui.errors import ImageRefused
from mirrorgui.units import KiB

_ZERO = 1


class LateOverlay(MemoryNode):
    """Reads as zeroes where nothing is allocated, until its backing image is opened.

    Attributes:
        refusal: why it cannot be opened; empty when it can.
        opened_in: name of the thread that opened it.
        before: called when it is about to be opened.
    """

    def __init__(self, size: int, below: BlockNode, *, cluster_size: int = 64 * KiB) -> None:
        super().__init__(size, name="overlay", cluster_size=cluster_size)
        self.unopened_backing = below.name
        self.refusal = ""
        self.opened_in = ""
        self.before: Callable[[], object] = lambda: None
        self._below = below

    def open_backing(self) -> None:
        if not self.unopened_backing:
            return
        self.before()
        if self.refusal:
            raise ImageRefused("target", self.unopened_backing, self.refusal)
        self.opened_in = threading.current_thread().name
        self.backing = self._below
        self.unopened_backing = ""

    def _empty_state(self) -> int:
        return _ZERO  # zeroes must stay zeroes when the backing image comes
