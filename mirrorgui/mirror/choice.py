"""Which dirty chunks are copied next: pass after pass over the image, around what is claimed."""

from collections.abc import Callable

from mirrorgui.block.node import Range
from mirrorgui.mirror.bitmap import DirtyBitmap
from mirrorgui.mirror.clusters import TargetClusters
from mirrorgui.mirror.failures import Failures
from mirrorgui.mirror.operation import Stall
from mirrorgui.mirror.ranges import Claim, RangeLock
from mirrorgui.units import align_up

REST_S = 0.1
"""Once READY, a new pass begins this long after the last one: chunks that a guest writes all the
time are copied ten times a second, not as often as the machine can. QEMU rests as long when idle.
"""


class Choice:
    """Chooses and claims dirty ranges, from the cursor on. Belongs to the event loop's thread.

    Attributes:
        unit: the shortest room in bytes that it can do anything with.
    """

    def __init__(
        self,
        dirty: DirtyBitmap,
        ranges: RangeLock,
        clusters: TargetClusters | None,
        clock: Callable[[], float],
    ) -> None:
        self._dirty = dirty
        self._ranges = ranges
        self._granularity = dirty.granularity
        # Clusters no longer than a chunk are written whole anyway.
        larger = clusters is not None and clusters.cluster_size > dirty.granularity
        self._clusters = clusters if larger else None
        self.unit = self._clusters.cluster_size if self._clusters else dirty.granularity
        self._clock = clock
        self._cursor = 0
        self._pass_started = 0.0

    def claim(
        self, longest: int, most: int, failures: Failures, *, resting: bool
    ) -> list[Claim] | Stall:
        """Claim the next dirty runs, wrapping around once.

        Args:
            longest: most bytes of all together; at least ``unit``.
            most: most runs.
            failures: what failed before is tried alone.
            resting: passes begin ``REST_S`` after one another.

        Returns:
            At least one claim, or why there is none.
        """
        wrapped = not self._cursor
        if wrapped and (stall := self._begin_pass(resting=resting)):
            return stall
        position, busy = self._cursor, False
        while True:
            runs = self._dirty.next_runs(position, longest, most)
            if not runs:
                if wrapped:
                    return Stall.BUSY if busy else Stall.CLEAN
                self._cursor = position = 0
                wrapped = True
                if stall := self._begin_pass(resting=resting):
                    return stall
                continue
            claims = self._claim_runs(_unsplit(runs, failures, self._granularity), longest)
            if claims:
                end = claims[-1].end
                self._cursor = end if end < self._dirty.size else 0
                return claims
            busy = True
            # A guest may have claimed gigabytes: step over them at once.
            offset = runs[0][0]
            position = align_up(self._ranges.busy_until(offset), self._granularity)
            position = max(position, offset + self._granularity)

    def _claim_runs(self, runs: list[Range], longest: int) -> list[Claim]:
        if self._clusters is None:
            return self._ranges.claim_prefixes(runs, self._granularity)
        claim = self._claim_clusters(self._clusters, *runs[0], longest)
        return [] if claim is None else [claim]

    def _claim_clusters(
        self, clusters: TargetClusters, offset: int, length: int, longest: int
    ) -> Claim | None:
        """Claim a run, rounded out to clusters of the target: all, the first one, or nothing."""
        start, end = clusters.round_out(offset, length)
        end = clusters.cut(start, end, longest)
        claim = self._ranges.claim_prefix(start, end - start, end - start)
        if claim is None:
            length = clusters.end_of_first(start, end) - start
            claim = self._ranges.claim_prefix(start, length, length)
        return claim

    def _begin_pass(self, *, resting: bool) -> Stall | None:
        """Begin a pass over the image; or say why it has to wait."""
        if self._dirty.is_clean:
            return Stall.CLEAN
        now = self._clock()
        if resting and now - self._pass_started < REST_S:
            return Stall.RESTING
        self._pass_started = now
        return None


def _unsplit(runs: list[Range], failures: Failures, granularity: int) -> list[Range]:
    """Leave of runs what may be tried together: a chunk that failed before is tried alone."""
    if failures.failed.is_clean:
        return runs
    offset, length = runs[0]
    if failures.must_split(offset):
        return [(offset, min(length, granularity))]
    failed = failures.failed.next_dirty(offset)
    return [(offset, length if failed is None else min(length, failed - offset))]
