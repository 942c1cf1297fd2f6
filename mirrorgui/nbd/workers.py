"""A few threads for a connection's requests that wait."""

import threading
from collections.abc import Callable
from queue import SimpleQueue


class WorkerPool:
    """Threads that are started when they are needed and stay until the pool is closed.

    Args:
        limit: most threads at a time.
        name: for the threads.

    Concurrency: ``submit`` from any thread.
    """

    def __init__(self, limit: int, name: str) -> None:
        self._limit = limit
        self._name = name
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._unclaimed = 0  # idle threads less queued work

    def submit(self, work: Callable[[], None]) -> None:
        """Let a thread call ``work``, soon. What it raises ends up in ``threading.excepthook``."""
        with self._lock:
            self._unclaimed -= 1
            if self._unclaimed < 0 and len(self._threads) < self._limit:
                self._unclaimed += 1
                thread = threading.Thread(
                    target=self._run, name=f"{self._name}-{len(self._threads)}", daemon=True
                )
                self._threads.append(thread)
                thread.start()
        self._queue.put(work)

    def close(self) -> None:
        """Wait until queued work is finished and the threads have ended."""
        with self._lock:
            threads = list(self._threads)
        for _ in threads:
            self._queue.put(None)
        for thread in threads:
            thread.join()

    def _run(self) -> None:
        try:
            while (work := self._queue.get()) is not None:
                work()
                del work  # it holds a payload
                with self._lock:
                    self._unclaimed += 1
            with self._lock:
                self._unclaimed -= 1
        finally:
            # Also when a defect ended this thread: another one takes its place.
            with self._lock:
                self._threads.remove(threading.current_thread())
