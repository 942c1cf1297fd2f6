"""Claiming a range of bytes: the only way in which operations exclude each other.

A claim is taken whole or not at all, and who waits holds nothing, so no circle of waiters can form:
every deadlock in the history of QEMU's mirror sat in operations that waited while others waited
for them.
"""

import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(eq=False, slots=True)
class Claim:
    """A claimed range of bytes, held until it is given to ``RangeLock.release``.

    Attributes:
        since_ns: monotonic clock at which a guest asked for it; 0 for the job's own.
    """

    offset: int
    length: int
    guest: bool = False
    since_ns: int = 0

    @property
    def end(self) -> int:
        """First byte behind the range."""
        return self.offset + self.length


class RangeLock:
    """Exclusive claims on byte ranges: the job never waits for one, guest threads do.

    The job is refused what a guest waits for: a guest is delayed by the copy that runs, never by
    the next one. Claims that are held never overlap, so they are kept sorted by offset.
    """

    def __init__(self, on_guest_release: Callable[[], None] = lambda: None) -> None:
        """Create it; ``on_guest_release`` is called, from any thread, when a guest's claim ends."""
        self._changed = threading.Condition(threading.Lock())
        self._offsets: list[int] = []
        self._held: list[Claim] = []  # in the order of _offsets
        self._waiting: list[Claim] = []
        self._on_guest_release = on_guest_release

    def claim_prefix(self, offset: int, length: int, alignment: int) -> Claim | None:
        """Claim the free beginning of a range, in whole multiples of ``alignment``; never waits.

        Returns:
            The claim, shorter than asked where something is in the way; None when nothing is free
            at ``offset``.
        """
        with self._changed:
            return self._claim_prefix(offset, length, alignment)

    def claim_prefixes(self, ranges: Sequence[tuple[int, int]], alignment: int) -> list[Claim]:
        """Claim ranges one after the other, up to the first that is not free as a whole.

        Args:
            ranges: at least one, in the order of their offsets.
            alignment: of what is claimed where a range is not free as a whole.

        Returns:
            The claims; of the last one ``claim_prefix`` may have claimed the beginning alone.
        """
        claims: list[Claim] = []
        with self._changed:
            if self._is_free(ranges[0][0], sum(ranges[-1])):
                claims = [Claim(offset, length) for offset, length in ranges]
                place = bisect_right(self._offsets, ranges[0][0])
                self._offsets[place:place] = [offset for offset, _ in ranges]
                self._held[place:place] = claims
                return claims
            for offset, length in ranges:
                claim = self._claim_prefix(offset, length, alignment)
                if claim is None:
                    break
                claims.append(claim)
                if claim.length < length:
                    break
        return claims

    def _claim_prefix(self, offset: int, length: int, alignment: int) -> Claim | None:
        end = offset + length
        place = bisect_right(self._offsets, offset)
        if place and self._held[place - 1].end > offset:
            return None
        free = end
        if place < len(self._offsets):
            free = min(free, self._offsets[place])
        for waiting in self._waiting:
            if waiting.offset < free and offset < waiting.end:
                free = waiting.offset
        if free < end:
            length = max(free - offset, 0) // alignment * alignment
            if not length:
                return None
        claim = Claim(offset, length)
        self._offsets.insert(place, offset)
        self._held.insert(place, claim)
        return claim

    def busy_until(self, offset: int) -> int:
        """Return where what is claimed or waited for around ``offset`` ends; ``offset`` if free."""
        with self._changed:
            place = bisect_right(self._offsets, offset)
            end = self._held[place - 1].end if place else 0
            for waiting in self._waiting:
                if waiting.offset <= offset:
                    end = max(end, waiting.end)
            return max(end, offset)

    @contextmanager
    def guest_claim(self, offset: int, length: int) -> Iterator[Claim]:
        """Hold a range while a guest's write goes to both images; waits until all of it is free."""
        claim = Claim(offset, length, guest=True, since_ns=time.monotonic_ns())
        with self._changed:
            if self._conflicts(claim):
                self._waiting.append(claim)
                try:
                    while self._conflicts(claim):
                        self._changed.wait()
                finally:
                    self._waiting.remove(claim)
            place = bisect_right(self._offsets, offset)
            self._offsets.insert(place, offset)
            self._held.insert(place, claim)
        try:
            yield claim
        finally:
            self.release(claim)

    def _conflicts(self, claim: Claim) -> bool:
        return self._is_held(claim.offset, claim.end)

    def _is_free(self, offset: int, end: int) -> bool:
        """Say whether nothing of a range is claimed, and no guest waits for anything at all."""
        return not self._waiting and not self._is_held(offset, end)

    def _is_held(self, offset: int, end: int) -> bool:
        place = bisect_right(self._offsets, offset)
        if place and self._held[place - 1].end > offset:
            return True
        return place < len(self._offsets) and self._offsets[place] < end

    def release(self, claim: Claim) -> None:
        """Give a claim back and wake whoever waits for a part of it."""
        self.release_all((claim,))
        if claim.guest:
            self._on_guest_release()

    def release_all(self, claims: Sequence[Claim]) -> None:
        """Give claims of the job's own back at once."""
        with self._changed:
            if not self._release_neighbours(claims):
                for claim in claims:
                    # Offsets of held claims differ: empty ranges are never claimed.
                    place = bisect_left(self._offsets, claim.offset)
                    del self._offsets[place]
                    del self._held[place]
            if self._waiting:
                self._changed.notify_all()

    def _release_neighbours(self, claims: Sequence[Claim]) -> bool:
        """Give claims back in one go if they are in order, and nobody holds anything between."""
        place = bisect_left(self._offsets, claims[0].offset)
        end = place + len(claims)
        if self._held[place:end] != list(claims):
            return False
        del self._offsets[place:end]
        del self._held[place:end]
        return True

    def held(self) -> tuple[Claim, ...]:
        """Return the claims held at this moment, by offset."""
        with self._changed:
            return tuple(self._held)

    @property
    def waiting(self) -> int:
        """Number of guest threads that wait."""
        return len(self._waiting)
