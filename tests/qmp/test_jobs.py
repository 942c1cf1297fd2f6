"""Mirrors begun by commands: what both programs say of a target that is made, and our own look."""

import pytest

from tests.qmp.peers import Peer
from tests.qmp.scripts import MiB, play_on_both, without, without_refused_jobs
from tests.qmp.test_nodes import empty, qemu_img, raw, shown

pytestmark = pytest.mark.interop

Peers = tuple[Peer, Peer]


def begin(peer: Peer, **arguments: object) -> None:
    peer.forget_events()
    peer.ok("drive-mirror", {"job-id": "job", **arguments})
    peer.wait_for("BLOCK_JOB_READY")


def end(peer: Peer, command: str = "block-job-complete") -> None:
    peer.ok(command, device="job")
    peer.wait_for_status("null")


def test_a_target_is_made_and_goes_when_nobody_uses_it(peers: Peers) -> None:
    seen = []

    def script(peer: Peer) -> None:
        empty(peer, "s.raw")
        (peer.folder / "t.raw").unlink(missing_ok=True)
        peer.ok("blockdev-add", raw("s"))
        begin(peer, device="s", target="t.raw", sync="full")
        seen.append(shown(peer))
        end(peer, "block-job-cancel")
        begin(peer, device="s", target="t.raw", sync="full")
        end(peer)
        seen.append(shown(peer))
        assert (peer.folder / "t.raw").stat().st_size == MiB

    play_on_both(peers, script, without("len", "offset"))
    assert seen[:2] == seen[2:]


@pytest.mark.parametrize("sync", ["full", "top", "none"])
def test_a_made_overlay_stands_on_what_the_mode_says(peers: Peers, sync: str) -> None:
    seen = []

    def script(peer: Peer) -> None:
        empty(peer, "s.raw")
        (peer.folder / "t.qcow2").unlink(missing_ok=True)
        qemu_img(peer.folder, "create", "-f", "qcow2", "-b", "s.raw", "-F", "raw", "o.qcow2")
        peer.ok("blockdev-add", raw("s"))
        file = {"driver": "file", "filename": "o.qcow2"}
        peer.ok("blockdev-add", driver="qcow2", node_name="o", file=file, backing="s")
        peer.ok("nbd-server-start", addr={"type": "unix", "data": {"path": "n.sock"}})
        peer.ok("block-export-add", type="nbd", id="e", node_name="o", writable=True)
        begin(peer, device="o", target="t.qcow2", sync=sync, **{"node-name": "t"})
        end(peer)
        seen.append(shown(peer))
        peer.ok("query-block-exports")
        peer.ok("block-export-del", id="e")
        seen.append(shown(peer))

    play_on_both(peers, script, without("len", "offset"))
    assert seen[:2] == seen[2:]


def test_targets_that_cannot_be_are_refused_alike(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        empty(peer, "s.raw", "there.raw")
        peer.ok("blockdev-add", raw("s"))
        for wrong in (
            {"device": "nobody"},
            {"device": "s-file"},
            {"mode": "existing", "target": "nobody.raw", "format": "raw"},
            {"mode": "existing", "target": "there.raw", "format": "bogus"},
            {"format": "bogus"},
            {"target": "/nonexistent/t.raw"},
            {"job-id": "1"},
            {"replaces": "s"},
            {"replaces": "nobody", "node-name": "t"},
            {"speed": -1},
            {"granularity": 5},
            {"sync": "bitmap"},
        ):
            given = {"job-id": "job", "device": "s", "target": "t.raw", "sync": "full"} | wrong
            peer.desc("drive-mirror", given)

    play_on_both(peers, script, without_refused_jobs)


def test_a_refused_mirror_leaves_what_was_there(ours: Peer) -> None:
    empty(ours, "s.raw")
    (ours.folder / "t.raw").write_bytes(b"mine")
    ours.ok("blockdev-add", raw("s"))
    given = {"job-id": "job", "device": "s", "target": "t.raw", "sync": "full", "node-name": "s"}
    assert ours.desc("drive-mirror", given) == "Duplicate nodes with node-name='s'"
    assert (ours.folder / "t.raw").read_bytes() == b"mine"
    assert len(shown(ours)) == 2


def test_s98_a_child_of_a_filter_is_replaced_alike(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        empty(peer, "s.raw", "t.raw")
        for name in "st":
            peer.ok("blockdev-add", raw(name))
        peer.ok("blockdev-add", driver="blkdebug", node_name="bug", image="s")
        mirror = {"job-id": "job", "device": "bug", "target": "t", "sync": "full"}
        peer.desc("blockdev-mirror", mirror | {"replaces": "s-file"})
        peer.forget_events()
        peer.ok("blockdev-mirror", mirror | {"replaces": "s"})
        peer.wait_for("BLOCK_JOB_READY")
        end(peer)
        peer.ok("blockdev-del", node_name="s")
        peer.desc("blockdev-del", node_name="t")
        peer.ok("blockdev-del", node_name="bug")
        peer.ok("blockdev-del", node_name="t")

    play_on_both(peers, script, without("len", "offset"))


def test_the_snapshot_tells_the_job_and_its_map(ours: Peer) -> None:
    (ours.folder / "s.raw").write_bytes(b"x" * MiB)
    empty(ours, "t.raw")
    for name in "st":
        ours.ok("blockdev-add", raw(name))
    ours.forget_events()
    mirror = {"job-id": "job", "device": "s", "target": "t", "sync": "full"}
    ours.ok("blockdev-mirror", mirror)
    ours.wait_for("BLOCK_JOB_READY")
    told = ours.ok("x-mirror-snapshot", id="job", cells=5)
    assert (told["status"], told["size"], told["offset"]) == ("ready", MiB, MiB)
    assert told["map"]["chunks"] == 16
    assert sum(told["map"]["copied"]) == 16
    assert len(told["map"]["copied"]) == told["map"]["cells"] == 5
    assert sum(told["map"]["dirty"]) == sum(told["map"]["failed"]) == 0
    assert ours.execute("x-mirror-snapshot", id="nobody")["error"]["class"] == "DeviceNotActive"


@pytest.mark.parametrize("sync", ["none", "top"])
def test_a_target_that_needs_a_backing_file_and_can_have_none_is_refused_alike(
    peers: Peers, sync: str
) -> None:
    """A guest would find nothing there, after the switch, but what it wrote meanwhile."""

    def script(peer: Peer) -> None:
        empty(peer, "s.raw")
        (peer.folder / "t.raw").write_bytes(b"mine")
        qemu_img(peer.folder, "create", "-f", "qcow2", "-b", "s.raw", "-F", "raw", "o.qcow2")
        peer.ok("blockdev-add", raw("s"))
        file = {"driver": "file", "filename": "o.qcow2"}
        peer.ok("blockdev-add", driver="qcow2", node_name="o", file=file, backing="s")
        peer.desc(
            "drive-mirror",
            {"job-id": "job", "device": "o", "target": "t.raw", "format": "raw", "sync": sync},
        )
        assert (peer.folder / "t.raw").read_bytes() == b"mine"

    play_on_both(peers, script, without_refused_jobs)


def test_a_node_is_not_mirrored_onto_what_a_filter_shows(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        empty(peer, "t.raw")
        peer.add("t", "t.raw")
        peer.ok("blockdev-add", driver="blkdebug", node_name="bug", image="t")
        peer.ok("blockdev-add", driver="blkdebug", node_name="top", image="bug")
        for target in ("bug", "t"):
            mirror = {"job-id": "job", "device": "top", "target": target, "sync": "full"}
            refused = peer.desc("blockdev-mirror", mirror)
            assert refused == "Can't mirror node into itself"

    play_on_both(peers, script, without_refused_jobs)


def test_the_largest_map_is_told_whole_and_holds_up_nobody(ours: Peer) -> None:
    """A terabyte in chunks of 64 KiB."""
    for name in "st":
        ours.ok("blockdev-add", {"driver": "null-co", "size": 1 << 40, "node-name": name})
    mirror = {"job-id": "job", "device": "s", "target": "t", "sync": "none"}
    ours.ok("blockdev-mirror", mirror)
    ours.wait_for("BLOCK_JOB_READY")
    told = ours.ok("x-mirror-snapshot", id="job", cells=(1 << 32) - 1)["map"]
    assert told["chunks"] == 1 << 24
    assert told["cells"] == len(told["dirty"]) == len(told["copied"]) == 1 << 16
