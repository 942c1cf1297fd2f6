"""Pause, cancel, speed, finalize, dismiss: scenarios S72 to S98 on both programs."""

import signal
import time

import pytest

from tests.interop.live import Guest
from tests.qmp.gate import far
from tests.qmp.peers import Peer
from tests.qmp.scripts import (
    KiB,
    MiB,
    Transcript,
    compare,
    complete,
    export,
    finish,
    guest,
    images,
    mirror,
    pattern,
    play,
    play_on_both,
    statuses,
    without,
)
from tests.running import background

pytestmark = pytest.mark.interop

Peers = tuple[Peer, Peer]

SLOW = {"speed": 1, "buf_size": 64 * KiB}

progress = without("offset", "len", "current-progress", "total-progress", "busy")


def test_s72_nothing_is_copied_while_paused(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        images(peer, 4 * MiB)
        mirror(peer, speed=MiB, buf_size=64 * KiB)
        peer.ok("job-pause", id="job")
        peer.wait_for_status("paused")
        before = peer.ok("query-block-jobs")[0]["offset"]
        after = peer.ok("query-block-jobs")[0]["offset"]
        assert before == after
        peer.ok("block-job-set-speed", device="job", speed=0)
        peer.ok("job-resume", id="job")
        peer.wait_for("BLOCK_JOB_READY")
        complete(peer)
        compare(peer, "s.raw", "t.raw")

    play_on_both(peers, script, progress)


def test_s73_s74_standby_and_pauses_too_many(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        images(peer)
        mirror(peer)
        peer.wait_for("BLOCK_JOB_READY")
        peer.desc("job-resume", id="job")
        peer.ok("job-pause", id="job")
        peer.wait_for_status("standby")
        peer.desc("job-pause", id="job")
        peer.desc("block-job-pause", device="job")
        peer.ok("query-block-jobs")
        peer.ok("job-resume", id="job")
        peer.wait_for_status("ready", count=2)
        peer.desc("block-job-resume", device="job")
        complete(peer)

    play_on_both(peers, script)


def test_s75_complete_in_standby_waits_for_resume(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        images(peer)
        mirror(peer)
        peer.wait_for("BLOCK_JOB_READY")
        peer.ok("job-pause", id="job")
        peer.wait_for_status("standby")
        peer.ok("job-complete", id="job")
        assert peer.ok("query-jobs")[0]["status"] == "standby"
        peer.ok("job-resume", id="job")
        peer.wait_for_status("null")
        compare(peer, "s.raw", "t.raw")

    play_on_both(peers, script)


def test_s76_complete_before_ready_is_refused(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        images(peer, 4 * MiB)
        mirror(peer, **SLOW)
        peer.desc("job-complete", id="job")
        peer.desc("block-job-complete", device="job")
        for verb in ("finalize", "dismiss"):
            peer.desc(f"job-{verb}", id="job")
            peer.desc(f"block-job-{verb}", id="job")
        peer.ok("block-job-set-speed", device="job", speed=0)
        peer.wait_for("BLOCK_JOB_READY")
        complete(peer)

    play_on_both(peers, script)


@pytest.mark.parametrize("command", ["soft", "force", "job"])
def test_s77_a_cancel_before_ready_is_prompt(peers: Peers, command: str) -> None:
    def script(peer: Peer) -> None:
        images(peer, 4 * MiB)
        mirror(peer, **SLOW)
        peer.until(lambda: peer.job()["len"] == 4 * MiB)  # it has looked over its source
        began = time.monotonic()
        if command == "job":
            peer.ok("job-cancel", id="job")
        else:
            peer.ok("block-job-cancel", device="job", force=command == "force")
        peer.wait_for_status("null")
        assert time.monotonic() - began < 5
        data = peer.wait_for("BLOCK_JOB_CANCELLED")
        assert data["offset"] < data["len"] == 4 * MiB

    play_on_both(peers, script, progress)


@pytest.mark.parametrize("command", ["force", "job"])
def test_s78_a_forced_cancel_after_ready(peers: Peers, command: str) -> None:
    def script(peer: Peer) -> None:
        images(peer)
        mirror(peer)
        peer.wait_for("BLOCK_JOB_READY")
        if command == "job":
            peer.ok("job-cancel", id="job")
        else:
            peer.ok("block-job-cancel", device="job", force=True)
        peer.wait_for_status("null")

    play_on_both(peers, script)


def test_a_paused_job_is_cancelled_by_force_only(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        images(peer, 4 * MiB)
        mirror(peer, **SLOW)
        peer.ok("job-pause", id="job")
        peer.wait_for_status("paused")
        peer.desc("block-job-cancel", device="job")
        peer.ok("block-job-cancel", device="job", force=True)
        peer.wait_for_status("null")

    play_on_both(peers, script, progress)


def test_s84_s85_s86_speeds(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        images(peer, 4 * MiB)
        mirror(peer, **SLOW)
        assert peer.ok("query-block-jobs")[0]["speed"] == 1
        peer.desc("block-job-set-speed", device="job", speed=-1)
        assert peer.ok("query-block-jobs")[0]["speed"] == 1
        peer.ok("block-job-set-speed", device="job", speed=2)
        assert peer.ok("query-block-jobs")[0]["speed"] == 2
        peer.desc("block-job-set-speed", device="unknown", speed=2)
        began = time.monotonic()
        peer.ok("block-job-set-speed", device="job", speed=0)
        peer.wait_for("BLOCK_JOB_READY")
        assert time.monotonic() - began < 5  # at one byte a second it sleeps for hours
        finish(peer)

    play_on_both(peers, script, progress)


def test_s82_a_speed_is_kept(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        images(peer, 2 * MiB)
        began = time.monotonic()
        mirror(peer, speed=2 * MiB, buf_size=64 * KiB)
        peer.wait_for("BLOCK_JOB_READY")
        assert 0.7 < time.monotonic() - began < 3
        finish(peer)

    play_on_both(peers, script)


def require_limited(peer: Peer, speed: int, began: float, base: int, done: int) -> None:
    """Look at a job until it has come so far; it is never further than its limit allows."""
    copied = 0
    while copied < done:
        copied = peer.job()["offset"] - base
        elapsed = time.monotonic() - began
        assert copied <= speed * (elapsed + 0.15), f"{copied} bytes within {elapsed:.3f} s"


def test_s83_a_limit_is_smooth_with_the_default_buffer(ours: Peer) -> None:
    """Ours alone: QEMU begins with a burst of its whole buffer, and has no limit when READY."""
    speed = 8 * MiB
    images(ours, 4 * MiB)
    uri = export(ours, "s")
    began = time.monotonic()
    mirror(ours, speed=speed)
    require_limited(ours, speed, began, 0, 4 * MiB)
    ours.wait_for("BLOCK_JOB_READY")
    began = time.monotonic()
    guest(uri, "write -P 5 0 4M")
    require_limited(ours, speed, began, 4 * MiB, 4 * MiB)
    complete(ours)
    compare(ours, "s.raw", "t.raw")


@pytest.mark.parametrize("end", ["finalize", "cancel"])
def test_s87_pending_waits_for_finalize(peers: Peers, end: str) -> None:
    def script(peer: Peer) -> None:
        images(peer)
        mirror(peer, auto_finalize=False)
        peer.wait_for("BLOCK_JOB_READY")
        peer.ok("job-complete", id="job")
        peer.wait_for("BLOCK_JOB_PENDING")
        peer.ok("query-block-jobs")
        for verb in ("pause", "resume", "complete", "dismiss"):
            peer.desc(f"job-{verb}", id="job")
        peer.desc("block-job-set-speed", device="job", speed=1)
        peer.ok("query-jobs")
        peer.ok(f"job-{end}", id="job")
        peer.wait_for_status("null")
        compare(peer, "s.raw", "t.raw")

    play_on_both(peers, script, without("busy"))


def test_s87_guests_are_on_the_source_until_finalize(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        images(peer)
        uri = export(peer, "s")
        mirror(peer, auto_finalize=False)
        peer.wait_for("BLOCK_JOB_READY")
        peer.ok("job-complete", id="job")
        peer.wait_for("BLOCK_JOB_PENDING")
        peer.ok("job-finalize", id="job")
        peer.wait_for_status("null")
        guest(uri, "write -P 9 0 64k")
        assert (peer.folder / "t.raw").read_bytes()[:512] == b"\x09" * 512
        assert (peer.folder / "s.raw").read_bytes()[:512] == pattern(512)

    play_on_both(peers, script)


@pytest.mark.parametrize("end", ["job-complete", "job-cancel"])
def test_s89_a_record_stays_until_it_is_dismissed(peers: Peers, end: str) -> None:
    def script(peer: Peer) -> None:
        images(peer)
        mirror(peer, auto_dismiss=False)
        peer.wait_for("BLOCK_JOB_READY")
        peer.ok(end, id="job")
        peer.wait_for_status("concluded")
        peer.ok("query-jobs")
        peer.ok("query-block-jobs")
        for verb in ("cancel", "pause", "resume", "complete", "finalize"):
            peer.desc(f"job-{verb}", id="job")
        peer.desc("block-job-cancel", device="job")
        peer.desc("block-job-set-speed", device="job", speed=1)
        assert "error" in mirror(peer)
        peer.ok("job-dismiss", id="job")
        assert peer.ok("query-jobs") == []
        peer.ok("blockdev-del", node_name="t")

    play_on_both(peers, script, without("busy", "paused"))


def test_s90_no_mirror_begins_in_a_transaction(peers: Peers) -> None:
    """QEMU's transactions take backups and snapshots; ours has none."""
    daemon, ours = peers
    for peer in peers:
        images(peer)
    data = {"job-id": "job", "device": "s", "target": "t", "sync": "full"}
    for kind in ("blockdev-mirror", "drive-mirror"):
        refused = daemon.desc("transaction", actions=[{"type": kind, "data": data}])
        assert refused == f"Parameter 'type' does not accept value '{kind}'"
    assert "has not been found" in ours.desc("transaction", actions=[])
    assert [peer.ok("query-jobs") for peer in peers] == [[], []]


def without_pauses(transcript: Transcript) -> None:
    """Take out that a job pauses and goes on, which QEMU's does when something drains it."""
    transcript.events = [
        (name, data)
        for name, data in transcript.events
        if data.get("status") not in ("paused", "running")
    ]


def test_s92_a_slow_source_does_not_hold_up_who_drains_it(peers: Peers) -> None:
    """Exports and their server go, which waits for requests under way, and come again."""

    def script(peer: Peer) -> None:
        with far(peer, "s", 4 * MiB, pattern(4 * MiB)) as gate:
            gate.slow["read"] = 0.05
            with Guest(export(peer, "s")) as client:
                mirror(peer, granularity=64 * KiB, buf_size=64 * KiB)
                peer.until(lambda: peer.job()["offset"] > 0)
                client.write(2 * MiB, b"\5" * (64 * KiB))
                peer.ok("block-export-del", id="disk", mode="hard")
                peer.wait_for("BLOCK_EXPORT_DELETED")
                peer.ok("nbd-server-stop")
            guest(export(peer, "s"), "write -P 6 3M 64k")
            assert peer.job()["status"] == "running"
            assert peer.job()["offset"] < 4 * MiB, "none of that has waited for the job"
            gate.slow.clear()
            peer.wait_for("BLOCK_JOB_READY")
            finish(peer)
        compare(peer, "s.raw", "t.raw")

    play_on_both(peers, script, progress, without_pauses)


def test_s95_a_switch_that_others_do_not_allow(peers: Peers) -> None:
    """Who stands on the source needs what somebody who stands on the target does not share."""

    def script(peer: Peer) -> None:
        images(peer)
        bug = {"driver": "blkdebug", "node-name": "on-target", "image": "t"}
        peer.ok("blockdev-add", bug | {"unshare-child-perms": ["consistent-read"]})
        mirror(peer, filter_node_name="filter")
        bug = {"driver": "blkdebug", "node-name": "on-source", "image": "s"}
        peer.ok("blockdev-add", bug | {"take-child-perms": ["consistent-read"]})
        peer.wait_for("BLOCK_JOB_READY")
        peer.ok("job-complete", id="job")
        completed = peer.wait_for("BLOCK_JOB_COMPLETED")
        assert completed["error"] == "Operation not permitted"
        peer.wait_for_status("null")
        nodes = {node["node-name"] for node in peer.asked("query-named-block-nodes")}
        assert nodes == {"s", "t", "on-source", "on-target"}
        guest(export(peer, "on-source"), "write -P 5 0 64k")
        assert (peer.folder / "s.raw").read_bytes()[:512] == b"\5" * 512
        assert (peer.folder / "t.raw").read_bytes() == pattern(MiB)

    play_on_both(peers, script)


def test_s94_locks_are_restored_and_nodes_can_be_deleted(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        images(peer)
        uri = export(peer, "s")
        mirror(peer, **SLOW)
        peer.desc("blockdev-del", node_name="s")
        said = guest(str(peer.folder / "t.raw"), "write 0 512", may_fail=True)
        assert "Failed to get" in said
        peer.ok("job-cancel", id="job")
        peer.wait_for_status("null")
        guest(uri, "write -P 3 0 4k", "read -P 3 0 4k")
        peer.desc("blockdev-del", node_name="s")
        peer.ok("block-export-del", id="disk")
        peer.wait_for("BLOCK_EXPORT_DELETED")
        peer.ok("blockdev-del", node_name="s")
        peer.ok("blockdev-del", node_name="t")
        for name in ("s.raw", "t.raw"):
            guest(str(peer.folder / name), "write 0 512")
        peer.add("t", "s.raw")

    play_on_both(peers, script, progress)


def test_a_finished_pivot_leaves_both_nodes_by_name(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        images(peer)
        export(peer, "s")
        mirror(peer)
        peer.wait_for("BLOCK_JOB_READY")
        complete(peer)
        peer.ok("query-block-exports")
        peer.ok("blockdev-del", node_name="s")
        peer.desc("blockdev-del", node_name="t")

    play_on_both(peers, script)


def test_s98_replaces(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        images(peer)
        peer.image("u.raw", MiB)
        peer.add("u", "u.raw")
        peer.desc(
            "blockdev-mirror", job_id="job", device="s", target="t", sync="full", replaces="x"
        )
        peer.desc(
            "blockdev-mirror", job_id="job", device="s", target="t", sync="full", replaces="u"
        )
        assert "return" in mirror(peer, replaces="s")
        peer.wait_for("BLOCK_JOB_READY")
        complete(peer)

    play_on_both(peers, script)


def test_events_of_a_whole_life_are_in_order(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        images(peer)
        mirror(peer, auto_dismiss=False, auto_finalize=False)
        peer.wait_for("BLOCK_JOB_READY")
        peer.ok("job-complete", id="job")
        peer.wait_for("BLOCK_JOB_PENDING")
        peer.ok("job-finalize", id="job")
        peer.wait_for_status("concluded")
        peer.ok("job-dismiss", id="job")
        peer.wait_for_status("null")

    transcripts = [play(peer, script) for peer in peers]
    wanted = [
        "created",
        "running",
        "ready",
        "BLOCK_JOB_READY",
        "waiting",
        "pending",
        "BLOCK_JOB_PENDING",
        "BLOCK_JOB_COMPLETED",
        "concluded",
        "null",
    ]
    assert [statuses(one.events) for one in transcripts] == [wanted, wanted]


@pytest.mark.parametrize("command", ["force", "job"])
def test_s81_a_request_that_hangs_is_given_up_by_force(ours: Peer, command: str) -> None:
    """Ours alone: QEMU's job waits for the server, see the differences."""
    images(ours)
    ours.image("far.raw", MiB)
    far_socket = ours.folder / "far.sock"
    program = ["qemu-nbd", "-k", str(far_socket), "-f", "raw", "-t", str(ours.folder / "far.raw")]
    with background(*program, ready=far_socket.exists) as server:
        address = {"type": "unix", "path": "far.sock"}
        ours.ok("blockdev-add", driver="nbd", node_name="n", server=address)
        mirror(ours, target="n", sync="none")
        ours.wait_for("BLOCK_JOB_READY")
        uri = export(ours, "s")
        server.send_signal(signal.SIGSTOP)
        try:
            guest(uri, "write -P 5 0 64k")
            ours.until(lambda: ours.ok("x-mirror-snapshot", id="job", cells=1)["operations"])
            began = time.monotonic()
            if command == "job":
                ours.ok("job-cancel", id="job")
            else:
                ours.ok("block-job-cancel", device="job", force=True)
            ours.wait_for("BLOCK_JOB_CANCELLED")
            ours.wait_for_status("null")
            assert time.monotonic() - began < 5
            guest(uri, "write -P 6 0 64k", "read -P 6 0 64k")
        finally:
            server.send_signal(signal.SIGCONT)
