"""Who is at work on an image: claims on guest clusters, and when the last old request has ended.

Two questions, both asked under the node's metadata lock:

* May this cluster be given a place now? Whoever gives clusters a place claims them first, writes
  its data without the lock, and names the place in the table afterwards. Another one that wants to
  change the same entries waits, so no two of them copy the same cluster at once.
* Has everybody left who may still use an old place? A request that reads or overwrites data in its
  place enters before it looks the place up. What is freed is used again only after all who entered
  before have left.
"""

import threading


class Requests:
    """Claims and ages of the requests of one node.

    Args:
        lock: the node's metadata lock; every method is to be called with it held.
    """

    def __init__(self, lock: threading.Lock) -> None:
        self._released = threading.Condition(lock)
        self._claims: list[tuple[int, int]] = []
        self._age = 0
        self._inside: dict[int, int] = {}

    def enter(self) -> int:
        """Begin to use places that are looked up under the same hold of the lock.

        Returns:
            What to give to ``leave``.
        """
        age = self._age
        self._inside[age] = self._inside.get(age, 0) + 1
        return age

    def leave(self, age: int) -> None:
        """End what ``enter`` began."""
        left = self._inside[age] - 1
        if left:
            self._inside[age] = left
        else:
            del self._inside[age]

    def next_age(self) -> int:
        """Part those who are inside now from those who come; return the age of the former."""
        age = self._age
        self._age += 1
        return age

    def all_left(self, age: int) -> bool:
        """Say whether nobody is inside any more who entered at ``age`` or before."""
        return all(each > age for each in self._inside)

    def first_claimed(self, first: int, end: int) -> int | None:
        """Return the first guest cluster of a range that somebody has claimed."""
        hits = [max(low, first) for low, high in self._claims if low < end and first < high]
        return min(hits) if hits else None

    def claim(self, first: int, end: int) -> tuple[int, int]:
        """Claim guest clusters that nobody has claimed; return what to give to ``release``."""
        self._claims.append((first, end))
        return first, end

    def release(self, claim: tuple[int, int]) -> None:
        """Give a claim back and wake those who wait."""
        self._claims.remove(claim)
        self._released.notify_all()

    def wait(self) -> None:
        """Wait until any claim is released; the lock is free meanwhile."""
        self._released.wait()
