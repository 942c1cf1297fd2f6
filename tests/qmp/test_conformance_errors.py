"""Errors and what the policies make of them: scenarios S53 to S71 on both programs."""

import errno
import os
from typing import Any

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
    guest,
    mirror,
    pattern,
    play_on_both,
    without,
)

pytestmark = pytest.mark.interop

Peers = tuple[Peer, Peer]

SIZE = 2 * MiB
READ = {"event": "none", "iotype": "read"}
WRITE = {"event": "none", "iotype": "write"}
FLUSH = {"event": "none", "iotype": "flush"}

progress = without("offset", "len", "current-progress", "total-progress", "busy")


def broken(peer: Peer, end: str, *rules: dict[str, Any]) -> None:
    """Make images of 2 MiB, one of which fails as told."""
    peer.image("s.raw", SIZE, pattern(SIZE))
    peer.image("t.raw", SIZE)
    for node in ("s", "t"):
        file = {"driver": "file", "filename": f"{node}.raw"}
        if node == end:
            image = {"driver": "blkdebug", "image": file, "inject-error": list(rules)}
            peer.ok("blockdev-add", {**image, "node-name": node})
        else:
            peer.ok("blockdev-add", {**file, "node-name": node})


def at(rule: dict[str, Any], offset: int = MiB, **more: Any) -> dict[str, Any]:
    return {**rule, "sector": offset // 512, "errno": errno.EIO, **more}


POLICIES = ["report", "enospc", "auto", "stop", "ignore"]


def script_of(end: str, rule: dict[str, Any], policy: str) -> Any:
    """Return the script of one error, and of the way on from it."""
    option = "on_source_error" if end == "s" else "on_target_error"

    def script(peer: Peer) -> None:
        broken(peer, end, rule)
        mirror(peer, auto_dismiss=False, buf_size=64 * KiB, **{option: policy})
        peer.wait_for("BLOCK_JOB_ERROR")
        if policy == "stop" or (policy in ("enospc", "auto") and rule["errno"] == errno.ENOSPC):
            peer.wait_for_status("paused")
            peer.ok("query-block-jobs")
            peer.desc("job-complete", id="job")
            peer.ok("job-resume", id="job")
            peer.wait_for("BLOCK_JOB_READY")
            peer.ok("query-block-jobs")
        elif policy == "ignore":
            peer.wait_for("BLOCK_JOB_READY")
        else:
            peer.wait_for_status("concluded")
            peer.ok("query-jobs")
            peer.ok("query-block-jobs")
            peer.ok("job-dismiss", id="job")
            peer.ok("blockdev-del", node_name="s")
            return
        peer.ok("job-complete", id="job")
        peer.wait_for_status("concluded")
        peer.ok("job-dismiss", id="job")
        compare(peer, "s.raw", "t.raw")

    return script


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("end", ["s", "t"])
def test_s53_s54_s55_s56_s57_s60_an_error_once(peers: Peers, end: str, policy: str) -> None:
    rule = at(READ if end == "s" else WRITE, once=True)
    play_on_both(peers, script_of(end, rule, policy), progress, without("paused"))


@pytest.mark.parametrize("policy", POLICIES)
def test_s58_s59_no_room_once(peers: Peers, policy: str) -> None:
    rule = at(WRITE, once=True, errno=errno.ENOSPC)
    play_on_both(peers, script_of("t", rule, policy), progress, without("paused"))


@pytest.mark.parametrize("policy", ["report", "stop"])
def test_s63_a_failed_flush_is_a_failed_write(peers: Peers, policy: str) -> None:
    rule = {**FLUSH, "errno": errno.EIO, "once": True}
    play_on_both(peers, script_of("t", rule, policy), progress, without("paused"))


def only_first_error(transcript: Transcript) -> None:
    """Leave one of equal errors: how many there are is a matter of time."""
    errors = [number for number, (name, _) in enumerate(transcript.events) if "ERROR" in name]
    for number in reversed(errors[1:]):
        del transcript.events[number]


def test_s62_s65_an_error_that_stays_can_be_cancelled(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        broken(peer, "t", at(WRITE))
        mirror(peer, on_target_error="ignore", buf_size=64 * KiB)
        peer.wait_for("BLOCK_JOB_ERROR")
        peer.ok("block-job-cancel", device="job", force=True)
        peer.wait_for_status("null")

    play_on_both(peers, script, progress, only_first_error)


def test_s66_several_operations_fail_at_once_and_it_stops_once(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        rules = [at(WRITE, offset, once=True) for offset in range(0, SIZE, 256 * KiB)]
        broken(peer, "t", *rules)
        mirror(peer, on_target_error="stop", granularity=64 * KiB)
        count = 0
        while not any(name == "BLOCK_JOB_READY" for name, _ in peer.events()):
            message = peer.receive()
            assert message is not None
            if message.get("data", {}).get("status") == "paused":
                count += 1
                peer.ok("job-resume", id="job")
        assert count
        complete(peer)
        compare(peer, "s.raw", "t.raw")

    for peer in peers:
        script(peer)


def test_s69_a_failed_job_keeps_its_name_until_it_is_dismissed(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        broken(peer, "s", at(READ, once=True))
        mirror(peer, auto_dismiss=False)
        peer.wait_for_status("concluded")
        assert "error" in mirror(peer)
        peer.ok("job-dismiss", id="job")
        assert mirror(peer) == {"return": {}}
        peer.wait_for("BLOCK_JOB_READY")
        complete(peer)
        compare(peer, "s.raw", "t.raw")

    play_on_both(peers, script, progress, without("paused"))


def test_s71_what_the_guest_writes_anew_is_copied(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        broken(peer, "s", at(READ))
        uri = export(peer, "s")
        mirror(peer, on_source_error="ignore", buf_size=64 * KiB)
        peer.wait_for("BLOCK_JOB_ERROR")
        guest(uri, "write -P 5 1M 64k")
        peer.ok("block-job-cancel", device="job", force=True)
        peer.wait_for_status("null")

    play_on_both(peers, script, progress, only_first_error)


# Errors at the end. The target is served behind a gate, which fails what it is told to.


def require_on_source(peer: Peer, uri: str) -> None:
    """See that a guest still works on the source."""
    with Guest(uri) as client:
        client.write(MiB, b"\7" * 512)
    assert (peer.folder / "s.raw").read_bytes()[MiB:][:512] == b"\7" * 512
    assert (peer.folder / "t.raw").read_bytes()[MiB:][:512] != b"\7" * 512


@pytest.mark.parametrize("when", ["flush", "copy"])
def test_s67_an_error_while_completing_never_switches(peers: Peers, when: str) -> None:
    def script(peer: Peer) -> None:
        with far(peer, "t", SIZE, pattern(SIZE)) as gate:
            uri = export(peer, "s")
            mirror(peer)
            peer.wait_for("BLOCK_JOB_READY")
            if when == "flush":
                gate.fail("flush")
                peer.ok("job-complete", id="job")
            else:
                copy = gate.keep("write", 0)
                with Guest(uri) as client:
                    client.write(0, b"\5" * 512)
                copy.wait()
                peer.ok("job-complete", id="job")
                copy.fail()
            completed = peer.wait_for("BLOCK_JOB_COMPLETED")
            assert completed["error"] == os.strerror(errno.EIO)
            peer.wait_for_status("null")
            require_on_source(peer, uri)

    play_on_both(peers, script, progress)


def test_s67_completing_goes_on_behind_an_error_that_stopped_it(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        with far(peer, "t", SIZE, pattern(SIZE)) as gate:
            export(peer, "s")
            mirror(peer, on_target_error="stop")
            peer.wait_for("BLOCK_JOB_READY")
            fails = gate.fail("flush")
            peer.ok("job-complete", id="job")
            peer.wait_for_status("standby")
            peer.ok("query-block-jobs")
            fails.lift()
            peer.ok("job-resume", id="job")
            peer.wait_for_status("null")
        compare(peer, "s.raw", "t.raw")

    play_on_both(peers, script, progress)


def test_s68_completing_waits_for_what_cannot_be_written_yet(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        with far(peer, "t", SIZE, pattern(SIZE)) as gate:
            uri = export(peer, "s")
            mirror(peer, on_target_error="ignore")
            peer.wait_for("BLOCK_JOB_READY")
            fails = gate.fail("write", 0)
            with Guest(uri) as client:
                client.write(0, b"\5" * 512)
            peer.wait_for("BLOCK_JOB_ERROR", operation="write", action="ignore")
            peer.ok("job-complete", id="job")
            fails.wait(fails.hits + 2)
            assert peer.job()["status"] == "ready"
            fails.lift()
            peer.wait_for_status("null")
        compare(peer, "s.raw", "t.raw")
        assert (peer.folder / "t.raw").read_bytes()[:512] == b"\5" * 512

    play_on_both(peers, script, progress, only_first_error)


def test_s68_a_completion_that_failed_and_is_cancelled_never_switches(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        with far(peer, "t", SIZE, pattern(SIZE)) as gate:
            uri = export(peer, "s")
            mirror(peer, on_target_error="stop")
            peer.wait_for("BLOCK_JOB_READY")
            gate.fail("flush")
            peer.ok("job-complete", id="job")
            peer.wait_for_status("standby")
            peer.desc("block-job-cancel", device="job")
            peer.ok("block-job-cancel", device="job", force=True)
            peer.wait_for_status("null")
            require_on_source(peer, uri)

    play_on_both(peers, script, progress)


def test_an_error_when_ready_stops_in_standby(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        broken(peer, "t", at(WRITE, once=True))
        os.truncate(peer.folder / "s.raw", MiB)
        os.truncate(peer.folder / "s.raw", SIZE)  # zeroes are not written as data
        uri = export(peer, "s")
        mirror(peer, on_target_error="stop")
        peer.wait_for("BLOCK_JOB_READY")
        guest(uri, "write -P 5 1M 64k")
        peer.wait_for_status("standby")
        peer.ok("query-block-jobs")
        peer.ok("job-resume", id="job")
        peer.wait_for_status("ready", count=2)
        complete(peer)
        compare(peer, "s.raw", "t.raw")

    play_on_both(peers, script, progress)


def test_a_forced_cancel_resets_the_io_status_of_a_job_that_an_error_stopped(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        broken(peer, "s", at(READ))
        mirror(peer, auto_dismiss=False, buf_size=64 * KiB, on_source_error="stop")
        peer.wait_for_status("paused")
        peer.ok("job-cancel", id="job")
        peer.wait_for_status("concluded")
        peer.ok("query-block-jobs")

    play_on_both(peers, script, progress)
