"""Modes, sparse images, guests that write: scenarios S19 to S52 on both programs."""

import socket
from pathlib import Path
from typing import Any

import pytest

from tests.qmp.peers import Peer
from tests.qmp.scripts import (
    KiB,
    MiB,
    allocated,
    compare,
    complete,
    export,
    finish,
    guest,
    images,
    img,
    mirror,
    pattern,
    play_on_both,
    without,
)
from tests.running import background

pytestmark = pytest.mark.interop

Peers = tuple[Peer, Peer]

progress = without("offset", "len", "current-progress", "total-progress", "busy")


def add_qcow2(peer: Peer, node: str, filename: str, **options: Any) -> None:
    file = {"driver": "file", "filename": filename}
    peer.ok("blockdev-add", {"driver": "qcow2", "node-name": node, "file": file, **options})


def overlay(peer: Peer, size: int = 4 * MiB, base_size: int = 4 * MiB) -> None:
    """Make ``base.raw`` full of a pattern, and ``s.qcow2`` over it with other bytes at 1 MiB."""
    peer.image("base.raw", base_size, pattern(base_size))
    img(peer, "create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", "s.qcow2", size)
    guest(str(peer.folder / "s.qcow2"), "write -P 7 1M 128k", image_format="qcow2")
    add_qcow2(peer, "s", "s.qcow2")


# Modes and formats.


def test_s19_top_copies_the_overlay_only(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        overlay(peer)
        img(peer, "create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", "t.qcow2")
        add_qcow2(peer, "t", "t.qcow2")
        mirror(peer, sync="top")
        data = peer.wait_for("BLOCK_JOB_READY")
        assert data["len"] == data["offset"] == 128 * KiB
        finish(peer)
        peer.ok("blockdev-del", node_name="t")
        compare(peer, "s.qcow2", "t.qcow2", "qcow2")

    play_on_both(peers, script)


def test_s19_full_copies_the_chain(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        overlay(peer)
        img(peer, "create", "-q", "-f", "qcow2", "t.qcow2", "4M")
        add_qcow2(peer, "t", "t.qcow2")
        mirror(peer)
        peer.wait_for("BLOCK_JOB_READY")
        complete(peer)
        peer.ok("blockdev-del", node_name="t")
        compare(peer, "s.qcow2", "t.qcow2", "qcow2")

    play_on_both(peers, script)


def test_s20_none_copies_what_is_written_by_whole_chunks(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        images(peer)
        uri = export(peer, "s")
        mirror(peer, sync="none", granularity=64 * KiB)
        data = peer.wait_for("BLOCK_JOB_READY")
        assert data["len"] == data["offset"] == 0
        guest(uri, "write -P 5 70000 10")
        peer.until(lambda: peer.ok("query-block-jobs")[0]["offset"] == 64 * KiB)
        peer.start_over()
        job = peer.ok("query-block-jobs")[0]
        assert job["len"] == job["offset"] == 64 * KiB
        finish(peer)
        source, target = ((peer.folder / f"{each}.raw").read_bytes() for each in "st")
        assert target[64 * KiB : 128 * KiB] == source[64 * KiB : 128 * KiB]
        assert not any(target[: 64 * KiB]) and not any(target[128 * KiB :])

    play_on_both(peers, script, without("busy"))


@pytest.mark.parametrize("sync", ["full", "top"])
def test_s21_an_overlay_longer_than_its_base(peers: Peers, sync: str) -> None:
    def script(peer: Peer) -> None:
        overlay(peer, base_size=2 * MiB)
        if sync == "top":
            img(peer, "create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", "t.qcow2", "4M")
        else:
            img(peer, "create", "-q", "-f", "qcow2", "t.qcow2", "4M")
        add_qcow2(peer, "t", "t.qcow2")
        mirror(peer, sync=sync)
        peer.wait_for("BLOCK_JOB_READY")
        finish(peer)
        peer.ok("blockdev-del", node_name="t")
        compare(peer, "s.qcow2", "t.qcow2", "qcow2")

    play_on_both(peers, script, progress)


@pytest.mark.parametrize("format_", ["raw", "qcow2"])
def test_drive_mirror_makes_its_target(peers: Peers, format_: str) -> None:
    def script(peer: Peer) -> None:
        peer.image("s.raw", MiB, pattern(MiB))
        peer.add("s", "s.raw")
        peer.ok(
            "drive-mirror",
            job_id="job",
            device="s",
            target="new.img",
            format=format_,
            sync="full",
            node_name="t",
        )
        peer.wait_for("BLOCK_JOB_READY")
        complete(peer)
        compare(peer, "s.raw", "new.img", "raw", format_)
        peer.ok("blockdev-del", node_name="s")

    play_on_both(peers, script)


def test_drive_mirror_uses_what_is_there(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        peer.image("s.raw", MiB, pattern(MiB))
        peer.image("t.raw", MiB)
        peer.add("s", "s.raw")
        wanted = {"job_id": "job", "device": "s", "sync": "full", "format": "raw"}
        peer.ok("drive-mirror", target="t.raw", mode="existing", **wanted)
        peer.wait_for("BLOCK_JOB_READY")
        finish(peer)
        compare(peer, "s.raw", "t.raw")
        peer.desc("drive-mirror", target="missing.raw", mode="existing", **wanted)
        assert not (peer.folder / "missing.raw").exists()

    play_on_both(peers, script)


@pytest.mark.parametrize(
    "options",
    [
        {"driver": "file", "filename": "new.raw", "size": MiB},
        {"driver": "file", "filename": "new.raw", "size": MiB, "preallocation": "full"},
        {"driver": "file", "filename": "no/new.raw", "size": MiB},
    ],
    ids=str,
)
def test_blockdev_create_is_a_job(peers: Peers, options: dict[str, Any]) -> None:
    def script(peer: Peer) -> None:
        peer.ok("blockdev-create", job_id="create", options=options)
        peer.wait_for_status("concluded", "create")
        peer.ok("query-jobs")
        peer.ok("query-block-jobs")
        peer.ok("job-dismiss", id="create")
        if "no/" not in options["filename"]:
            assert (peer.folder / "new.raw").stat().st_size == MiB

    play_on_both(peers, script)


def test_blockdev_create_makes_a_qcow2_image_on_a_node(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        peer.image("t.qcow2", 0)
        peer.add("file", "t.qcow2")
        peer.ok(
            "blockdev-create",
            job_id="create",
            options={"driver": "qcow2", "file": "file", "size": 4 * MiB},
        )
        peer.wait_for_status("concluded", "create")
        peer.ok("query-jobs")
        peer.ok("job-dismiss", id="create")
        peer.ok("blockdev-add", driver="qcow2", node_name="t", file="file")
        peer.image("s.raw", 4 * MiB, pattern(MiB))
        peer.add("s", "s.raw")
        mirror(peer)
        peer.wait_for("BLOCK_JOB_READY")
        finish(peer)
        peer.ok("blockdev-del", node_name="t")
        compare(peer, "s.raw", "t.qcow2", "raw", "qcow2")

    play_on_both(peers, script, progress)


# Zeroes and holes.


def test_s22_a_sparse_source_stays_sparse(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        peer.image("s.raw", 8 * MiB)
        with (peer.folder / "s.raw").open("rb+") as file:
            file.seek(4 * MiB)
            file.write(pattern(MiB))
        peer.image("t.raw", 8 * MiB)
        peer.add("s", "s.raw")
        peer.add("t", "t.raw")
        mirror(peer)
        peer.wait_for("BLOCK_JOB_READY")
        complete(peer)
        compare(peer, "s.raw", "t.raw")
        assert allocated(peer.folder / "t.raw") <= MiB + 128 * KiB

    play_on_both(peers, script, progress)


def test_s23_garbage_on_the_target_is_cleaned(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        peer.image("s.raw", 8 * MiB)
        peer.image("t.raw", 8 * MiB, b"\xa5" * (8 * MiB))
        peer.add("s", "s.raw")
        peer.add("t", "t.raw", discard="unmap")
        mirror(peer)
        peer.wait_for("BLOCK_JOB_READY")
        complete(peer)
        compare(peer, "s.raw", "t.raw")
        assert allocated(peer.folder / "t.raw") == 0

    play_on_both(peers, script, progress)


def test_s25_islands(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        peer.image("s.raw", 8 * MiB)
        with (peer.folder / "s.raw").open("rb+") as file:
            for number in range(8):
                file.seek(number * MiB)
                file.write(pattern(4 * KiB))
        peer.image("t.raw", 8 * MiB)
        peer.add("s", "s.raw")
        peer.add("t", "t.raw")
        mirror(peer)
        peer.wait_for("BLOCK_JOB_READY")
        complete(peer)
        compare(peer, "s.raw", "t.raw")

    play_on_both(peers, script, progress)


def test_s29_whole_clusters_where_the_backing_file_is_not_open(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        peer.image("base.raw", 4 * MiB, pattern(4 * MiB))
        for name, cluster in (("s", "64k"), ("t", "256k")):
            options = f"cluster_size={cluster}"
            backing = ["-b", "base.raw", "-F", "raw"]
            img(peer, "create", "-q", "-f", "qcow2", "-o", options, *backing, f"{name}.qcow2")
        guest(str(peer.folder / "s.qcow2"), "write -P 7 300k 4k", image_format="qcow2")
        add_qcow2(peer, "s", "s.qcow2")
        add_qcow2(peer, "t", "t.qcow2", backing=None)
        mirror(peer, sync="top", granularity=4 * KiB)
        peer.wait_for("BLOCK_JOB_READY")
        finish(peer)
        peer.ok("blockdev-del", node_name="t")
        compare(peer, "s.qcow2", "t.qcow2", "qcow2")

    play_on_both(peers, script, progress)


# Guests.


@pytest.mark.parametrize("copy_mode", ["background", "write-blocking"])
@pytest.mark.parametrize(
    "command", ["write -P 5 100k 200k", "write -P 5 512 512", "write -z 64k 256k", "discard 0 1M"]
)
def test_s31_s32_s37_s46_what_guests_do_reaches_the_target(
    peers: Peers, copy_mode: str, command: str
) -> None:
    def script(peer: Peer) -> None:
        images(peer, 4 * MiB)
        uri = export(peer, "s")
        mirror(peer, copy_mode=copy_mode)
        peer.wait_for("BLOCK_JOB_READY")
        guest(uri, command, "write -P 6 2M 1M")
        if copy_mode == "write-blocking":
            compare(peer, "s.raw", "t.raw")
        complete(peer)
        compare(peer, "s.raw", "t.raw")

    play_on_both(peers, script, progress)


def test_s37_work_grows_by_what_is_written_anew(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        images(peer, 4 * MiB)
        uri = export(peer, "s")
        mirror(peer)
        peer.wait_for("BLOCK_JOB_READY")
        guest(uri, "write -P 5 1M 1M")
        peer.until(lambda: peer.ok("query-block-jobs")[0]["offset"] == 5 * MiB)
        peer.start_over()
        job = peer.ok("query-block-jobs")[0]
        assert job["len"] == job["offset"] == 5 * MiB
        complete(peer)

    play_on_both(peers, script, without("busy"))


def test_s43_a_blocking_write_is_on_the_target_when_it_returns(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        images(peer, 4 * MiB)
        uri = export(peer, "s")
        mirror(peer, copy_mode="write-blocking", speed=1, buf_size=64 * KiB)
        peer.until(lambda: peer.job()["offset"] > 0)  # it has begun to copy
        guest(uri, "write -P 5 2M 64k")
        assert (peer.folder / "t.raw").read_bytes()[2 * MiB :][: 64 * KiB] == b"\5" * (64 * KiB)
        peer.ok("job-cancel", id="job")
        peer.wait_for_status("null")

    play_on_both(peers, script, progress)


def test_s44_an_odd_write_comes_later_at_the_latest(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        images(peer, 4 * MiB)
        uri = export(peer, "s")
        mirror(peer, copy_mode="write-blocking", speed=1, buf_size=64 * KiB)
        guest(uri, f"write -P 5 {2 * MiB + 42} 1")
        peer.ok("block-job-set-speed", device="job", speed=0)
        peer.wait_for("BLOCK_JOB_READY")
        complete(peer)
        compare(peer, "s.raw", "t.raw")

    play_on_both(peers, script, progress)


def test_s48_a_blocking_write_succeeds_where_the_target_fails(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        peer.image("s.raw", 2 * MiB)
        peer.image("t.raw", 2 * MiB)
        peer.add("s", "s.raw")
        fail = {"event": "none", "iotype": "write", "once": True}
        file = {"driver": "file", "filename": "t.raw"}
        peer.ok(
            "blockdev-add",
            {"driver": "blkdebug", "node-name": "t", "image": file, "inject-error": [fail]},
        )
        uri = export(peer, "s")
        mirror(peer, copy_mode="write-blocking")
        peer.wait_for("BLOCK_JOB_READY")
        guest(uri, "write -P 5 0 64k", "read -P 5 0 64k")
        peer.wait_for_status("null")

    play_on_both(peers, script, progress)


def listens(path: Path) -> bool:
    """Whether somebody listens there; its file is there a moment earlier."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def test_s99_a_target_over_the_network_that_goes_away(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        images(peer)
        peer.image("far.raw", MiB)
        far = peer.folder / "far.sock"
        command = ["qemu-nbd", "-k", str(far), "-f", "raw", "-t", str(peer.folder / "far.raw")]
        with background(*command, ready=lambda: listens(far)):
            server = {"type": "unix", "path": "far.sock"}
            peer.ok("blockdev-add", driver="nbd", node_name="n", server=server, reconnect_delay=0)
            mirror(peer, target="n", on_target_error="stop")
            peer.wait_for("BLOCK_JOB_READY")
        uri = export(peer, "s")
        guest(uri, "write -P 5 0 64k")
        peer.wait_for_status("standby")
        peer.ok("block-job-cancel", device="job", force=True)
        peer.wait_for_status("null")

    play_on_both(peers, script, progress)
