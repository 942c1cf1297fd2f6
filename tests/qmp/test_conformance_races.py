"""Guests that write while the job copies: scenarios S34 to S52, with races met on purpose.

One of the images is served by qemu-nbd behind a gate, which keeps back what a test wants to be on
its way at that moment.
"""

import pytest

from tests.interop.live import Guest
from tests.qmp.gate import far
from tests.qmp.peers import Peer
from tests.qmp.scripts import (
    KiB,
    MiB,
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

CHUNK = 64 * KiB
ONE_BY_ONE = {"granularity": CHUNK, "buf_size": CHUNK}

progress = without("offset", "len", "current-progress", "total-progress", "busy")


def test_s34_a_write_while_its_chunk_is_read_is_copied_again(peers: Peers) -> None:
    """The server has read the old bytes already; the job has not got them yet."""

    def script(peer: Peer) -> None:
        with far(peer, "s", MiB, pattern(MiB)) as gate:
            uri = export(peer, "s")
            read = gate.keep("read", 0, replies=True, once=True)
            mirror(peer, **ONE_BY_ONE)
            read.wait()
            with Guest(uri) as client:
                client.write(0, b"\5" * CHUNK)
            read.lift()
            ready = peer.wait_for("BLOCK_JOB_READY")
            assert ready["offset"] == ready["len"] == MiB + CHUNK, "copied twice"
            complete(peer)
        compare(peer, "s.raw", "t.raw")
        assert (peer.folder / "t.raw").read_bytes()[:CHUNK] == b"\5" * CHUNK

    play_on_both(peers, script)


def test_s34_s35_a_second_copy_begins_when_the_first_has_ended(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        with far(peer, "t", MiB, pattern(MiB)) as gate:
            uri = export(peer, "s")
            copies = [gate.keep("write", 0, once=True) for _ in range(2)]
            mirror(peer, **ONE_BY_ONE)
            for number, copy in enumerate(copies):
                copy.wait()
                guest(uri, f"write -P {number + 5} 0 64k", f"write -P {number + 6} 1k 1k")
                copy.lift()
            ready = peer.wait_for("BLOCK_JOB_READY")
            assert ready["offset"] == ready["len"]
            complete(peer)
            assert gate.overlaps == []
            assert len([one for one in gate.of("write") if one.offset == 0]) == 3
        compare(peer, "s.raw", "t.raw")

    play_on_both(peers, script, progress)


def test_s39_a_write_between_clean_and_the_end_is_not_lost(peers: Peers) -> None:
    """The target's last flush is on its way; a guest that asks meanwhile is answered later."""

    def script(peer: Peer) -> None:
        with far(peer, "t", MiB, pattern(MiB)) as gate:
            with Guest(export(peer, "s")) as client:
                mirror(peer)
                peer.wait_for("BLOCK_JOB_READY")
                # Ours flushes most of it while guests still work, and the rest when none does.
                flushes = [
                    gate.keep("flush", replies=True, once=True) for _ in range(1 + peer.is_ours)
                ]
                peer.ok("job-complete", id="job")
                for flush in flushes:
                    flush.wait()
                    if flush is not flushes[-1]:
                        flush.lift()
                client.tell("write", offset=0, data=(b"\5" * CHUNK).hex())
                flushes[-1].lift()
                client.answer()
                peer.wait_for_status("null")
                assert client.read(0, CHUNK) == b"\5" * CHUNK
            peer.ok("block-export-del", id="disk", mode="hard")
            peer.wait_for("BLOCK_EXPORT_DELETED")
        assert (peer.folder / "s.raw").read_bytes() == pattern(MiB)
        assert (peer.folder / "t.raw").read_bytes() == b"\5" * CHUNK + pattern(MiB)[CHUNK:]

    play_on_both(peers, script)


def test_s39_a_write_during_the_first_flush_is_copied(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        with far(peer, "t", MiB, pattern(MiB)) as gate:
            with Guest(export(peer, "s")) as client:
                mirror(peer)
                peer.wait_for("BLOCK_JOB_READY")
                flush = gate.keep("flush", replies=True, once=True)
                peer.ok("job-complete", id="job")
                flush.wait()
                client.tell("write", offset=0, data=(b"\5" * CHUNK).hex())
                if peer.is_ours:
                    client.answer()
                flush.lift()
                if not peer.is_ours:
                    client.answer()
                peer.wait_for_status("null")
            peer.ok("block-export-del", id="disk", mode="hard")
            peer.wait_for("BLOCK_EXPORT_DELETED")
        assert (peer.folder / "t.raw").read_bytes() == b"\5" * CHUNK + pattern(MiB)[CHUNK:]

    play_on_both(peers, script, progress)


def test_s40_a_write_behind_the_scan_is_not_missed(peers: Peers) -> None:
    """The server has said that nothing is there; the job has not heard it yet."""

    def script(peer: Peer) -> None:
        with far(peer, "s", 4 * MiB, pattern(CHUNK)) as gate:
            uri = export(peer, "s")
            status = gate.keep("block-status", replies=True, once=True)
            mirror(peer, **ONE_BY_ONE)
            status.wait()
            with Guest(uri) as client:
                client.write(3 * MiB, b"\5" * CHUNK)
                client.zero(0, 4 * KiB)
            status.lift()
            peer.wait_for("BLOCK_JOB_READY")
            complete(peer)
        compare(peer, "s.raw", "t.raw")
        assert (peer.folder / "t.raw").read_bytes()[3 * MiB :][:CHUNK] == b"\5" * CHUNK

    play_on_both(peers, script, progress)


def test_s40_a_write_while_the_target_is_made_zero_is_not_missed(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        with far(peer, "t", 4 * MiB, pattern(CHUNK), discard="unmap") as gate:
            (peer.folder / "t.raw").write_bytes(b"\xa5" * (4 * MiB))
            uri = export(peer, "s")
            zero = gate.keep("write-zeroes", once=True)
            mirror(peer, **ONE_BY_ONE)
            zero.wait()
            guest(uri, "write -P 5 0 4k", "write -P 5 3M 64k")
            zero.lift()
            peer.wait_for("BLOCK_JOB_READY")
            complete(peer)
        compare(peer, "s.raw", "t.raw")

    play_on_both(peers, script, progress)


# Guests that write all the time, to a target that takes its time.

PLACES = {"kind": "counter", "offset": 0, "length": 2 * MiB, "block": CHUNK}


def copied(peer: Peer) -> int:
    return int(peer.job()["offset"])


def test_s41_a_writer_faster_than_the_target_delays_ready_until_it_stops(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        with far(peer, "t", 2 * MiB, pattern(2 * MiB)) as gate:
            gate.slow["write"] = 0.02
            with Guest(export(peer, "s")) as writer:
                writer.start_load(**PLACES)
                mirror(peer, **ONE_BY_ONE)
                peer.until(lambda: copied(peer) > 3 * MiB)
                assert peer.job()["status"] == "running"
                written = writer.stop_load()
                assert written["error"] is None
                assert written["done"] > 3 * MiB // CHUNK, "the guest is not slowed down"
            gate.slow.clear()
            peer.wait_for("BLOCK_JOB_READY")
            complete(peer)
        compare(peer, "s.raw", "t.raw")

    play_on_both(peers, script, progress)


def test_s80_a_soft_cancel_under_constant_writes_waits_and_force_does_not(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        with far(peer, "t", 2 * MiB, pattern(2 * MiB)) as gate:
            gate.slow["write"] = 0.02
            with Guest(export(peer, "s")) as writer:
                mirror(peer, **ONE_BY_ONE)
                peer.wait_for("BLOCK_JOB_READY")
                writer.start_load(**PLACES)
                # All of it is dirty before the end is asked for.
                peer.until(lambda: writer.load()["done"] > 100)
                peer.ok("block-job-cancel", device="job")
                before = copied(peer)
                peer.until(lambda: copied(peer) > before + MiB)
                assert peer.job()["status"] == "ready"
                peer.ok("block-job-cancel", device="job", force=True)
                peer.wait_for_status("null")
                assert writer.stop_load()["error"] is None
            gate.slow.clear()

    play_on_both(peers, script, progress)


def test_s80_a_soft_cancel_under_constant_writes_ends(ours: Peer) -> None:
    """Ours alone: QEMU's job waits for an instant in which the guest leaves nothing dirty."""
    ours.image("s.raw", MiB, pattern(MiB))
    ours.image("t.raw", MiB)
    ours.add("s", "s.raw")
    ours.add("t", "t.raw")
    with Guest(export(ours, "s")) as writer:
        writer.start_load(kind="counter", offset=0, length=MiB)
        mirror(ours)
        ours.wait_for("BLOCK_JOB_READY")
        ours.ok("block-job-cancel", device="job")
        completed = ours.wait_for("BLOCK_JOB_COMPLETED")
        assert "error" not in completed
        ours.wait_for_status("null")
        assert writer.stop_load()["error"] is None


def test_s42_write_blocking_reaches_ready_under_load(ours: Peer) -> None:
    """Ours alone: 7.2 begins no copy while a guest's write is under way; it took 1 to 8 s."""
    with far(ours, "t", 4 * MiB, pattern(4 * MiB)) as gate:
        gate.slow["write"] = 0.002
        with Guest(export(ours, "s")) as writer:
            writer.start_load(kind="random", offset=0, length=4 * MiB, block=4096)
            mirror(ours, copy_mode="write-blocking", **ONE_BY_ONE)
            ours.wait_for("BLOCK_JOB_READY")
            written = writer.load()
            assert written["error"] is None and written["done"] > 0
            copies = [one for one in gate.of("write") if one.length == CHUNK]
            assert len(copies) > 20, "the job copies while the guest writes"
            assert writer.stop_load()["error"] is None
        complete(ours)
        assert gate.overlaps == []
    compare(ours, "s.raw", "t.raw")


# Changing the copy mode: since QEMU 8.2.

CHANGE = {"id": "job", "type": "mirror", "copy-mode": "write-blocking"}


def test_s50_the_mode_changes_while_requests_are_on_their_way(ours: Peer) -> None:
    with far(ours, "t", 4 * MiB, pattern(4 * MiB)) as gate:
        uri = export(ours, "s")
        copies = gate.keep("write")
        mirror(ours, granularity=CHUNK)
        copies.wait()
        guest(uri, "write -P 5 0 64k")
        ours.ok("block-job-change", CHANGE)
        assert ours.job()["actively-synced"] is False
        copies.lift()
        ours.wait_for("BLOCK_JOB_READY")
        ours.until(lambda: ours.job()["actively-synced"])
        for number in range(8):
            guest(uri, f"write -P {number + 6} {number * 1000} {number * 5000 + 1}")
            compare(ours, "s.raw", "t.raw")
        assert gate.overlaps == []
        complete(ours)


def test_s51_s52_actively_synced_is_for_write_blocking(ours: Peer) -> None:
    for name in "st":
        ours.image(f"{name}.raw", MiB, pattern(MiB))
        ours.add(name, f"{name}.raw")
    mirror(ours)
    ours.wait_for("BLOCK_JOB_READY")
    assert ours.job()["actively-synced"] is False
    ours.ok("block-job-change", {**CHANGE, "copy-mode": "background"})
    assert ours.job()["actively-synced"] is False
    ours.ok("block-job-change", CHANGE)
    ours.until(lambda: ours.job()["actively-synced"])
    ours.ok("block-job-change", CHANGE)
    refused = ours.desc("block-job-change", {**CHANGE, "copy-mode": "background"})
    assert refused == "Change to copy mode 'background' is not implemented"
    assert ours.job()["actively-synced"] is True
    complete(ours)
