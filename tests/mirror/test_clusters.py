"""Clusters of a target whose backing file is not open: which bytes must come together."""

import pytest

from mirrorgui.block.memory import MemoryNode
from mirrorgui.mirror.choice import Choice
from mirrorgui.mirror.clusters import TargetClusters, clusters_of
from mirrorgui.mirror.failures import Failures
from mirrorgui.mirror.operation import Stall
from mirrorgui.mirror.parts import PartBitmap
from mirrorgui.mirror.ranges import RangeLock
from mirrorgui.units import KiB, MiB
from tests.mirror.overlay import LateOverlay

SIZE = MiB + 700
CLUSTER = 64 * KiB
CHUNK = 4 * KiB


@pytest.fixture
def clusters() -> TargetClusters:
    return TargetClusters(SIZE, CLUSTER)


def test_only_a_backing_file_that_is_not_open_asks_for_it() -> None:
    base = MemoryNode(MiB, name="base")
    assert clusters_of(MemoryNode(MiB, backing=base), CHUNK) is None
    found = clusters_of(LateOverlay(MiB, base, cluster_size=CLUSTER), CHUNK)
    assert found is not None
    assert found.cluster_size == CLUSTER


def test_a_range_is_rounded_out_to_clusters(clusters: TargetClusters) -> None:
    assert clusters.round_out(CHUNK, 1) == (0, CLUSTER)
    assert clusters.round_out(CLUSTER, CLUSTER) == (CLUSTER, 2 * CLUSTER)
    assert clusters.round_out(CLUSTER - 1, 2) == (0, 2 * CLUSTER)
    assert clusters.round_out(MiB + 5, 1) == (MiB, SIZE), "the image ends there"


def test_what_is_there_is_not_rounded_to(clusters: TargetClusters) -> None:
    clusters.arrived(CHUNK, 2 * CLUSTER)
    assert clusters.round_out(CHUNK, 1) == (0, CLUSTER), "it came in part only"
    assert clusters.round_out(CLUSTER + 5, 1) == (CLUSTER + 5, CLUSTER + 6)
    assert clusters.round_out(CLUSTER + 5, CLUSTER) == (CLUSTER + 5, 3 * CLUSTER)
    clusters.arrived(MiB, 700)
    assert clusters.round_out(MiB + 5, 1) == (MiB + 5, MiB + 6)
    clusters.all_there()
    assert clusters.round_out(5, 1) == (5, 6)


class Rig:
    """A choice over an empty bitmap."""

    def __init__(self) -> None:
        self.dirty = PartBitmap(SIZE, CHUNK)
        self.ranges = RangeLock()
        self.clusters = TargetClusters(SIZE, CLUSTER)
        self.choice = Choice(self.dirty, self.ranges, self.clusters, lambda: 0.0)

    def claim(self, longest: int = MiB) -> tuple[int, int] | Stall:
        claims = self.choice.claim(longest, 16, Failures(SIZE, CHUNK), resting=False)
        if isinstance(claims, Stall):
            return claims
        (claim,) = claims
        self.dirty.take([(claim.offset, claim.length)])
        return claim.offset, claim.end


def test_a_dirty_chunk_is_claimed_with_its_cluster() -> None:
    rig = Rig()
    assert rig.choice.unit == CLUSTER
    rig.dirty.mark(CLUSTER + CHUNK, CHUNK)
    rig.dirty.mark(MiB + 600, 1)
    assert rig.claim() == (CLUSTER, 2 * CLUSTER)
    assert rig.claim() == (MiB, SIZE)
    assert rig.claim() is Stall.CLEAN


def test_a_long_run_is_cut_between_clusters() -> None:
    rig = Rig()
    rig.dirty.mark(CHUNK, MiB - 2 * CHUNK)
    assert rig.claim(3 * CLUSTER + CHUNK) == (0, 3 * CLUSTER)
    rig.clusters.arrived(3 * CLUSTER, CLUSTER)
    rig.dirty.clear(3 * CLUSTER, CHUNK)
    assert rig.claim(2 * CLUSTER) == (3 * CLUSTER + CHUNK, 5 * CLUSTER)
    assert rig.claim(CLUSTER) == (5 * CLUSTER, 6 * CLUSTER)
    assert rig.claim(MiB) == (6 * CLUSTER, MiB)


def test_a_cluster_is_claimed_whole_or_not_at_all() -> None:
    rig = Rig()
    with rig.ranges.guest_claim(2 * CLUSTER - 1, 1):
        rig.dirty.mark(0, CHUNK)
        rig.dirty.mark(CLUSTER, CHUNK)
        assert rig.claim() == (0, CLUSTER)
        assert rig.claim() is Stall.BUSY
        rig.dirty.mark(0, 4 * CLUSTER)
        rig.ranges.release(rig.ranges.held()[0])
        assert rig.claim() == (0, CLUSTER), "of a longer run its first cluster"
    rig.ranges.release(rig.ranges.held()[0])
    assert rig.claim() == (CLUSTER, 4 * CLUSTER)


def test_clusters_no_longer_than_a_chunk_change_nothing() -> None:
    clusters = TargetClusters(SIZE, CHUNK)
    choice = Choice(PartBitmap(SIZE, CLUSTER), RangeLock(), clusters, lambda: 0.0)
    assert choice.unit == CLUSTER
