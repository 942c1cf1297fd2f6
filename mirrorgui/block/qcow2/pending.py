"""References that were dropped in memory, and still stand in the file."""

from typing import NamedTuple


class Free(NamedTuple):
    """A run of clusters that each lose one reference.

    Attributes:
        first: number of the first one.
        clusters: how many.
        discard: give the storage back when they become free.
    """

    first: int
    clusters: int
    discard: bool


class Pending:
    """A queue of what is to be freed, with marks in it.

    Concurrency: none of its own; the caller holds the node's metadata lock.
    """

    def __init__(self) -> None:
        self._queue: list[Free] = []
        self._taken = 0
        self._marked = 0

    def add(self, free: Free) -> None:
        """Put a run behind the others; it joins its neighbour if no mark stands between them."""
        if len(self._queue) > self._marked:
            last = self._queue[-1]
            if last.first + last.clusters == free.first and last.discard == free.discard:
                joined = last.clusters + free.clusters
                self._queue[-1] = Free(last.first, joined, free.discard)
                return
        self._queue.append(free)

    def mark(self) -> int:
        """Return a mark that stands for all that was put in up to now."""
        self._marked = len(self._queue)
        return self._taken + self._marked

    def take(self, mark: int | None) -> list[Free]:
        """Take out what stands before a mark, or everything; lowest clusters first."""
        count = len(self._queue) if mark is None else max(mark - self._taken, 0)
        found = sorted(self._queue[:count])
        del self._queue[:count]
        self._taken += count
        self._marked = max(self._marked - count, 0)
        return found

    def put_back(self, frees: list[Free]) -> None:
        """Put runs back in front of the others."""
        self._queue[:0] = frees
        self._taken -= len(frees)
        self._marked += len(frees)
