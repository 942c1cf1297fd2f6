"""What the guests' writes come to: counted from their threads, read on the loop."""

import threading
from collections.abc import Callable

from mirrorgui.errors import BlockIOError
from mirrorgui.mirror.engine import CopyEngine


class GuestTally:
    """Counts what the hooks tell, and wakes the engine: the hooks' ``GuestListener``.

    Args:
        engine: gets the news.
        on_target_failed: called, from any thread, when the target refused a guest's write.
    """

    def __init__(
        self, engine: CopyEngine, on_target_failed: Callable[[BlockIOError], object]
    ) -> None:
        self._engine = engine
        self._on_target_failed = on_target_failed
        self._lock = threading.Lock()
        self._dirtied = self._mirrored = 0

    @property
    def dirtied(self) -> int:
        """Total of bytes that guests made dirty."""
        return self._dirtied

    @property
    def mirrored(self) -> int:
        """Total of bytes that guests wrote to both images."""
        with self._lock:
            return self._mirrored

    def guest_dirtied(self, length: int) -> None:
        """Count, and wake the engine if it has nothing to do."""
        with self._lock:
            self._dirtied += length
        self._engine.kick()

    def guest_mirrored(self, offset: int, length: int) -> None:
        """Count a write that reached both images."""
        self._engine.copied.mark(offset, length)
        with self._lock:
            self._mirrored += length
        self._engine.kick()

    def guest_target_failed(self, error: BlockIOError) -> None:
        """Pass it on."""
        self._on_target_failed(error)
