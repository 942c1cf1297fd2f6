"""Copy-on-write that the target's driver cannot do, because its backing file is not open yet.

A target that names a backing file has it opened at the very end. Until then its driver fills what
is left of a newly allocated cluster with zeroes, and those would hide the backing file's bytes
later. So whatever is the first to write to a cluster writes all of it, with the source's bytes.
"""

from mirrorgui.block.node import BlockNode
from mirrorgui.mirror.bitmap import DirtyBitmap
from mirrorgui.units import align_down, align_up


class TargetClusters:
    """The target's clusters, and which of them hold all of the source's bytes.

    Args:
        size: length of the image in bytes.
        cluster_size: bytes that the target's driver allocates at once.

    Concurrency: every method may be called from any thread.
    """

    def __init__(self, size: int, cluster_size: int) -> None:
        self.size = size
        self.cluster_size = cluster_size
        self._there = DirtyBitmap(size, cluster_size)

    def round_out(self, offset: int, length: int) -> tuple[int, int]:
        """Return (start, end) of a range, with the whole of a first and last cluster not there."""
        start, end = offset, offset + length
        if start not in self._there:
            start = align_down(start, self.cluster_size)
        if end - 1 not in self._there:
            end = min(align_up(end, self.cluster_size), self.size)
        return start, end

    def cut(self, start: int, end: int, longest: int) -> int:
        """Return where a rounded range ends so that it is no longer than a cluster or ``longest``.

        No cluster that is not there is cut in two. ``longest`` is at least one cluster.
        """
        limit = start + longest
        return end if end <= limit else align_down(limit, self.cluster_size)

    def end_of_first(self, start: int, end: int) -> int:
        """Return where the first cluster of a range ends."""
        return min(align_down(start, self.cluster_size) + self.cluster_size, end)

    def arrived(self, offset: int, length: int) -> None:
        """The target has the source's bytes of a range: what it covers whole is there."""
        end = offset + length
        first = align_up(offset, self.cluster_size)
        last = self.size if end >= self.size else align_down(end, self.cluster_size)
        self._there.mark(first, last - first)

    def all_there(self) -> None:
        """The driver does it itself from now on."""
        self._there.mark_all()


def clusters_of(target: BlockNode, granularity: int) -> TargetClusters | None:
    """Return the clusters of a target that needs us for copy-on-write, None where it does not."""
    if not target.unopened_backing:
        return None
    # A driver that does not tell its cluster size is taken to have what the job copies at once.
    return TargetClusters(target.size, target.limits.cluster_size or granularity)
