"""Happy paths, sizes and refusals: scenarios S01 to S18 on both programs."""

from typing import Any

import pytest

from tests.qmp.peers import Peer
from tests.qmp.scripts import (
    KiB,
    MiB,
    compare,
    complete,
    export,
    finish,
    guest,
    images,
    mirror,
    pattern,
    play_on_both,
    without,
    without_refused_jobs,
)

pytestmark = pytest.mark.interop

Peers = tuple[Peer, Peer]


def test_s01_complete_after_ready(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        images(peer)
        assert mirror(peer) == {"return": {}}
        peer.wait_for("BLOCK_JOB_READY")
        peer.ok("query-block-jobs")
        peer.ok("query-jobs")
        complete(peer)
        peer.ok("query-block-jobs")
        compare(peer, "s.raw", "t.raw")

    play_on_both(peers, script)


def test_s01_guests_go_on_on_the_target(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        images(peer)
        uri = export(peer, "s")
        mirror(peer)
        peer.wait_for("BLOCK_JOB_READY")
        complete(peer)
        guest(uri, "write -P 0x77 0 64k")
        assert (peer.folder / "s.raw").read_bytes()[: 64 * KiB] == pattern(64 * KiB)
        assert (peer.folder / "t.raw").read_bytes()[: 64 * KiB] == b"\x77" * (64 * KiB)

    play_on_both(peers, script)


def test_s02_a_soft_cancel_leaves_a_copy_and_the_source_in_use(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        images(peer)
        uri = export(peer, "s")
        mirror(peer)
        peer.wait_for("BLOCK_JOB_READY")
        finish(peer)
        compare(peer, "s.raw", "t.raw")
        guest(uri, "write -P 0x77 0 64k")
        assert (peer.folder / "t.raw").read_bytes() == pattern(MiB)

    play_on_both(peers, script)


@pytest.mark.parametrize("end", ["complete", "soft", "force"])
def test_s03_s04_an_empty_image(peers: Peers, end: str) -> None:
    def script(peer: Peer) -> None:
        images(peer, 0)
        mirror(peer)
        peer.wait_for("BLOCK_JOB_READY")
        peer.ok("query-block-jobs")
        if end == "complete":
            peer.ok("job-complete", id="job")
        else:
            peer.ok("block-job-cancel", device="job", force=end == "force")
        peer.wait_for_status("null")

    play_on_both(peers, script)


@pytest.mark.parametrize(
    ("size", "granularity"),
    [
        (1025 * KiB, 64 * KiB),  # S05
        (512, 64 * KiB),  # S06
        *((1025 * KiB, each) for each in (512, 4 * KiB, MiB, 64 * MiB)),  # S10
    ],
)
def test_s05_s06_s10_sizes_and_granularities(peers: Peers, size: int, granularity: int) -> None:
    def script(peer: Peer) -> None:
        images(peer, size)
        mirror(peer, granularity=granularity)
        peer.wait_for("BLOCK_JOB_READY")
        peer.ok("query-block-jobs")
        complete(peer)
        compare(peer, "s.raw", "t.raw")
        assert (peer.folder / "t.raw").stat().st_size == size

    play_on_both(peers, script)


@pytest.mark.parametrize("sizes", [(MiB, 2 * MiB), (2 * MiB, MiB)])
def test_s09_different_sizes_fail_and_touch_nothing(peers: Peers, sizes: tuple[int, int]) -> None:
    def script(peer: Peer) -> None:
        images(peer, sizes[0], target_size=sizes[1])
        assert mirror(peer, auto_dismiss=False) == {"return": {}}
        peer.wait_for_status("concluded")
        peer.ok("query-jobs")
        peer.ok("job-dismiss", id="job")
        assert (peer.folder / "t.raw").read_bytes() == bytes(sizes[1])

    play_on_both(peers, script)


@pytest.mark.parametrize("buf_size", [4096, 64 * KiB])
def test_s11_s13_small_buffers(peers: Peers, buf_size: int) -> None:
    def script(peer: Peer) -> None:
        images(peer, 8 * MiB)
        mirror(peer, buf_size=buf_size, granularity=64 * KiB)
        peer.wait_for("BLOCK_JOB_READY")
        complete(peer)
        compare(peer, "s.raw", "t.raw")

    play_on_both(peers, script)


def test_s14_defaults(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        images(peer, 32 * MiB)
        mirror(peer)
        peer.wait_for("BLOCK_JOB_READY")
        complete(peer)
        compare(peer, "s.raw", "t.raw")

    play_on_both(peers, script)


REFUSED: list[dict[str, Any]] = [
    {"target": "s"},  # S15
    {"device": "missing"},  # S16
    {"target": "missing"},
    {"target": "r"},
    *({"granularity": each} for each in (256, 1536, 128 * MiB)),  # S17
    {"buf_size": -1},
    {"speed": -1},
    {"sync": "incremental"},
    {"sync": "bitmap"},
    *({"job_id": each} for each in ("", "1", "a b", "#a", "a/b", "ä")),
    {"replaces": "missing"},
    {"replaces": "t"},
    {"filter_node_name": "s"},
    {"filter_node_name": "#x"},
    {"on_source_error": "ignore", "target": "missing"},
]


@pytest.mark.parametrize("arguments", REFUSED, ids=str)
def test_s15_s16_s17_refusals_leave_nothing(peers: Peers, arguments: dict[str, Any]) -> None:
    def script(peer: Peer) -> None:
        images(peer)
        peer.image("r.raw", MiB)
        peer.add("r", "r.raw", read_only=True)
        assert "error" in mirror(peer, **arguments)
        assert peer.ok("query-jobs") == []
        peer.ok("blockdev-del", node_name="s")
        peer.ok("blockdev-del", node_name="t")

    play_on_both(peers, script, without_refused_jobs)


def test_s17_a_job_without_a_name_needs_a_device_with_one(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        images(peer)
        peer.desc("blockdev-mirror", device="s", target="t", sync="full")

    play_on_both(peers, script)


def test_s18_source_and_target_belong_to_the_job(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        images(peer)
        peer.image("u.raw", MiB)
        peer.add("u", "u.raw")
        mirror(peer, filter_node_name="filter")
        peer.wait_for("BLOCK_JOB_READY")
        assert "error" in mirror(peer, job_id="other", target="u")
        assert "error" in mirror(peer, job_id="other", device="u")
        assert "error" in mirror(peer, job_id="other", device="t", target="u")
        assert "error" in mirror(peer, device="u", target="u")
        assert "error" in mirror(peer, job_id="other", device="filter", target="u")
        for node in ("s", "t", "filter"):
            peer.desc("blockdev-del", node_name=node)
        complete(peer)
        for node in ("s", "t", "u"):
            peer.ok("blockdev-del", node_name=node)

    play_on_both(peers, script)


def test_nodes_are_shown_below_their_filter(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        images(peer)
        mirror(peer, filter_node_name="filter")
        peer.wait_for("BLOCK_JOB_READY")
        nodes = peer.ok("query-named-block-nodes", flat=True)
        assert sorted(node["node-name"] for node in nodes) == ["filter", "s", "t"]
        finish(peer)
        peer.ok("query-named-block-nodes", flat=True)

    play_on_both(peers, script, without("dirty-bitmaps"))


def test_two_jobs_at_once(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        images(peer)
        for name in ("a", "b"):
            peer.image(f"{name}.raw", MiB, pattern(MiB, 7))
            peer.add(name, f"{name}.raw")
        mirror(peer, job_id="one")
        peer.wait_for("BLOCK_JOB_READY", device="one")
        mirror(peer, job_id="two", device="a", target="b")
        peer.wait_for("BLOCK_JOB_READY", device="two")
        complete(peer, "one")
        complete(peer, "two")
        compare(peer, "s.raw", "t.raw")
        compare(peer, "a.raw", "b.raw")

    play_on_both(peers, script)


def test_a_name_can_be_had_again_at_once(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        images(peer)
        for _ in range(3):
            mirror(peer)
            peer.wait_for("BLOCK_JOB_READY")
            finish(peer)
            peer.forget_events()

    play_on_both(peers, script)
