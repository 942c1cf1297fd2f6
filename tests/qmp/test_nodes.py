"""Commands upon nodes: the same answers as qemu-storage-daemon's, and what only ours can show."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.qmp.peers import Connection, Peer
from tests.qmp.scripts import MiB, play_on_both, without, without_refused_jobs

pytestmark = pytest.mark.interop

Peers = tuple[Peer, Peer]

MEASURED = ("iops", "bps", "actual-size", "write_threshold")


def qemu_img(folder: Path, *arguments: str) -> None:
    subprocess.run(["qemu-img", *arguments], cwd=folder, check=True, capture_output=True)


def empty(peer: Peer, *names: str) -> None:
    for name in names:
        (peer.folder / name).unlink(missing_ok=True)
        with (peer.folder / name).open("wb") as file:
            file.truncate(MiB)


def raw(name: str, **more: Any) -> dict[str, Any]:
    file = {"driver": "file", "node-name": f"{name}-file", "filename": f"{name}.raw"}
    return {"driver": "raw", "node-name": name, "file": file} | more


def shown(peer: Connection, **more: Any) -> list[tuple[str, str, bool, int]]:
    """Names (automatic ones without their number), drivers, read-only, depth; newest first.

    What was said for it is not compared: sizes and automatic names differ.
    """
    nodes = peer.ok("query-named-block-nodes", **more)
    peer.messages.pop()
    return [
        (
            "#" if node["node-name"].startswith("#block") else node["node-name"],
            node["drv"],
            node["ro"],
            node["backing_file_depth"],
        )
        for node in nodes
    ]


def test_backing_files_that_cannot_be_opened_are_told_alike(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        empty(peer, "junk.raw")
        for upper, lower in (("mid", "base"), ("top", "mid")):
            below = ["-u", "-b", f"{lower}.qcow2", "-F", "qcow2"]
            qemu_img(peer.folder, "create", "-f", "qcow2", *below, f"{upper}.qcow2", "1M")
        file = {"driver": "file", "filename": "top.qcow2"}
        missing = {"driver": "file", "filename": "missing"}
        for below in (
            {},
            {"backing": "nobody"},
            {"backing": {"driver": "raw", "file": missing}},
            {"backing": {"driver": "qcow2", "file": missing}},
            {"backing": {"driver": "qcow2", "file": {**missing, "filename": "junk.raw"}}},
        ):
            text = peer.desc("blockdev-add", driver="qcow2", node_name="top", file=file, **below)
            assert text.startswith("Could not open backing file: ")

    play_on_both(peers, script)


def test_wrong_names_windows_and_ways_are_told_alike(peers: Peers) -> None:
    """Also what comes first where several things are wrong."""
    missing = {"driver": "file", "filename": "missing"}
    a = {"driver": "file", "filename": "a.raw"}
    own = {**a, "node-name": "own"}

    def script(peer: Peer) -> None:
        empty(peer, "a.raw", "b.raw")
        qemu_img(peer.folder, "create", "-f", "qcow2", "q.qcow2", "1M")
        peer.add("there", "b.raw")
        q = {"driver": "file", "filename": "q.qcow2"}
        broken = {"event": "none", "iotype": "read"}
        bug = {"driver": "blkdebug", "image": q, "inject-error": [broken]}
        for wrong in (
            {"driver": "raw", "file": "nobody", "node-name": "there"},
            {"driver": "raw", "file": missing, "node-name": "there"},
            {"driver": "qcow2", "file": missing, "node-name": "there"},
            {"driver": "qcow2", "file": "nobody", "node-name": "1"},
            {"driver": "qcow2", "file": q, "backing": "nobody", "node-name": "there"},
            {"driver": "blkdebug", "image": missing, "node-name": "there"},
            {**missing, "node-name": "there"},
            {"driver": "raw", "file": "own", "node-name": "own"},
            {"driver": "raw", "file": own, "node-name": "own"},
            {"driver": "blkdebug", "image": own, "node-name": "own"},
            {"driver": "blkdebug", "image": "own", "node-name": "own"},
            {"driver": "qcow2", "file": q, "backing": "own", "node-name": "own"},
            {"driver": "raw", "file": a, "offset": 512, "size": MiB, "node-name": "n"},
            {"driver": "raw", "file": a, "offset": 2 * MiB, "node-name": "n"},
            {"driver": "raw", "file": a, "size": 2 * MiB, "node-name": "n"},
            {"driver": "raw", "file": a, "offset": -1, "node-name": "n"},
            {**a, "force-share": True, "node-name": "n"},
            {**a, "force-share": True, "node-name": "there"},
            {"driver": "qcow2", "file": {**q, "read-only": True}, "node-name": "n"},
            {"driver": "qcow2", "file": bug, "node-name": "n"},
        ):
            peer.desc("blockdev-add", wrong)
        peer.ok("query-named-block-nodes")

    play_on_both(peers, script, without(*MEASURED))


def test_what_shows_a_read_only_node_is_not_read_only_itself(peers: Peers) -> None:
    seen = []

    def script(peer: Peer) -> None:
        empty(peer, "a.raw", "b.raw")
        file = {"driver": "file", "filename": "a.raw", "read-only": True}
        peer.ok("blockdev-add", driver="raw", file=file, node_name="raw")
        peer.ok("blockdev-add", driver="blkdebug", image="raw", node_name="bug")
        peer.ok("blockdev-add", driver="raw", file="raw", node_name="own", read_only=True)
        peer.add("s", "b.raw")
        seen.append(shown(peer))
        peer.ok("nbd-server-start", addr={"type": "unix", "data": {"path": "n.sock"}})
        for node in ("raw", "bug", "own"):
            export = {"type": "nbd", "id": "e", "node-name": node, "writable": True}
            peer.desc("block-export-add", export)
            mirror = {"job-id": "job", "device": "s", "target": node, "sync": "full"}
            peer.desc("blockdev-mirror", mirror)
        peer.forget_events()
        source = {"job-id": "job", "device": "own", "target": "s", "sync": "full"}
        peer.ok("blockdev-mirror", source)
        peer.wait_for("BLOCK_JOB_READY")
        seen.append(shown(peer))

    play_on_both(peers, script, without("len", "offset"), without_refused_jobs)
    assert seen[:2] == seen[2:]


def test_nodes_in_every_position_are_listed_alike(peers: Peers) -> None:
    seen = []
    for peer in peers:
        empty(peer, "a.raw", "b.raw")
        qemu_img(peer.folder, "create", "-f", "qcow2", "-b", "a.raw", "-F", "raw", "o.qcow2")
        peer.ok("blockdev-add", raw("b"))
        peer.ok("blockdev-add", driver="raw", node_name="over", file="b", read_only=True)
        file = {"driver": "file", "filename": "o.qcow2"}
        peer.ok("blockdev-add", driver="qcow2", node_name="o", file=file)
        null = {"driver": "null-co", "size": MiB}
        peer.ok("blockdev-add", driver="blkdebug", node_name="bug", image=null)
        seen.append((shown(peer), shown(peer, flat=True)))
    assert seen[0] == seen[1]


def test_a_node_is_described_alike(peers: Peers) -> None:
    described = []
    for peer in peers:
        empty(peer, "a.raw")
        qemu_img(peer.folder, "create", "-f", "qcow2", "-b", "a.raw", "-F", "raw", "o.qcow2")
        file = {"driver": "file", "filename": "o.qcow2", "node-name": "f"}
        peer.ok("blockdev-add", driver="qcow2", node_name="o", file=file, detect_zeroes="on")
        nodes = {node["node-name"]: node for node in peer.ok("query-named-block-nodes")}
        text = json.dumps(nodes["o"], sort_keys=True)
        found = json.loads(text, object_hook=without_measured)
        described.append(found)
    assert described[0] == described[1]


def without_measured(value: dict[str, Any]) -> dict[str, Any]:
    return {key: each for key, each in value.items() if not key.startswith(MEASURED)}


def test_names_and_uses_are_refused_alike(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        empty(peer, "s.raw", "t.raw")
        peer.ok("blockdev-add", raw("s"))
        for name in ("s", "s-file", "1", "", "a b", "#block1", "n" * 32):
            peer.desc("blockdev-add", driver="null-co", node_name=name)
        peer.desc("blockdev-add", driver="null-co")
        peer.desc("blockdev-add", driver="raw", node_name="x", file="nobody")
        peer.desc("blockdev-add", driver="raw", node_name="x", file="x")
        twice = {"driver": "null-co", "node-name": "x"}
        peer.desc("blockdev-add", driver="raw", node_name="x", file=twice)
        for name in ("s-file", "nobody"):
            peer.desc("blockdev-del", node_name=name)
        peer.ok("blockdev-add", driver="raw", node_name="over", file="s")
        peer.desc("blockdev-del", node_name="s")
        peer.ok("blockdev-del", node_name="over")
        peer.ok("blockdev-del", node_name="s")
        peer.desc("blockdev-del", node_name="s")

    play_on_both(peers, script)


def test_images_that_cannot_be_opened_are_refused_alike(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        empty(peer, "s.raw")
        peer.desc("blockdev-add", driver="file", node_name="x", filename="nobody.raw")
        file = {"driver": "file", "filename": "s.raw"}
        peer.desc("blockdev-add", driver="qcow2", node_name="x", file=file)
        server = {"type": "unix", "path": "/nonexistent"}
        peer.desc("blockdev-add", driver="nbd", node_name="x", server=server)
        assert peer.ok("query-named-block-nodes") == []

    play_on_both(peers, script)


def test_two_writers_of_one_file_node_are_refused_alike(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        qemu_img(peer.folder, "create", "-f", "qcow2", "q.qcow2", "1M")
        file = {"driver": "file", "node-name": "f", "filename": "q.qcow2"}
        peer.ok("blockdev-add", driver="qcow2", node_name="q", file=file)
        peer.desc("blockdev-add", driver="qcow2", node_name="q2", file="f")
        addr = {"type": "unix", "data": {"path": "n.sock"}}
        peer.ok("nbd-server-start", addr=addr)
        for writable in (True, False):
            peer.desc("block-export-add", type="nbd", id="e", node_name="f", writable=writable)
        peer.ok("block-export-add", type="nbd", id="e", node_name="q", writable=True)
        peer.desc("blockdev-del", node_name="q")

    play_on_both(peers, script)


def test_images_are_made_alike(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        for name in ("n.raw", "n.qcow2"):
            (peer.folder / name).unlink(missing_ok=True)
        create(peer, driver="file", filename="n.raw", size=MiB)
        peer.desc("blockdev-create", job_id="job", options={"driver": "file", "filename": "x"})
        create(peer, driver="file", filename="/nonexistent/x", size=MiB)
        create(peer, driver="file", filename="m.raw", size=2 * MiB, preallocation="metadata")
        create(peer, driver="file", filename="n.qcow2", size=0)
        peer.ok("blockdev-add", driver="file", node_name="f", filename="n.qcow2")
        create(peer, driver="qcow2", file="nobody", size=MiB)
        for wrong in (
            {"size": MiB + 1},
            {"cluster-size": 3},
            {"refcount-bits": 3},
            {"version": "v2", "refcount-bits": 8},
            {"version": "v2", "lazy-refcounts": True},
            {"version": "v2", "extended-l2": True},
            {"version": "v2", "compression-type": "zstd"},
            {"extended-l2": True, "cluster-size": 4096},
            {"backing-fmt": "raw"},
            {"data-file-raw": True},
        ):
            create(peer, driver="qcow2", file="f", **({"size": MiB} | wrong))
        create(peer, driver="qcow2", file="f", size=MiB)
        peer.ok("blockdev-del", node_name="f")
        qemu_img(peer.folder, "check", "n.qcow2")
        assert (peer.folder / "n.raw").stat().st_size == MiB

    play_on_both(peers, script)


def create(peer: Peer, **options: Any) -> None:
    """Make an image, look at the job, and dismiss it."""
    peer.forget_events()
    peer.ok("blockdev-create", job_id="job", options=options)
    peer.wait_for_status("concluded")
    peer.ok("query-jobs")
    peer.ok("job-dismiss", id="job")


def test_a_file_that_is_in_use_is_not_made_anew(ours: Peer) -> None:
    empty(ours, "s.raw")
    ours.ok("blockdev-add", raw("s"))
    ours.forget_events()
    options = {"driver": "file", "filename": "s.raw", "size": 4096}
    ours.ok("blockdev-create", job_id="job", options=options)
    ours.wait_for_status("concluded")
    assert ours.ok("query-jobs")[0]["error"].endswith("lock")
    ours.ok("job-dismiss", id="job")
    assert (ours.folder / "s.raw").stat().st_size == MiB


def test_a_read_only_node_over_a_writable_one_is_read_only(ours: Peer) -> None:
    ours.ok("blockdev-add", driver="null-co", node_name="n", size=MiB)
    ours.ok("blockdev-add", driver="raw", node_name="r", file="n", read_only=True)
    ours.ok("nbd-server-start", addr={"type": "unix", "data": {"path": "n.sock"}})
    refused = ours.desc("block-export-add", type="nbd", id="e", node_name="r", writable=True)
    assert refused == "Cannot export read-only node as writable"


def test_an_image_is_not_made_where_others_write(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        empty(peer, "n.qcow2")
        peer.ok("blockdev-add", driver="file", node_name="f", filename="n.qcow2")
        peer.ok("nbd-server-start", addr={"type": "unix", "data": {"path": "n.sock"}})
        for writable in (True, False):
            export = {"type": "nbd", "id": "e", "node-name": "f", "writable": writable}
            peer.ok("block-export-add", export)
            create(peer, driver="qcow2", file="f", size=MiB)
            peer.ok("block-export-del", id="e")
            peer.wait_for("BLOCK_EXPORT_DELETED", id="e")
        assert (peer.folder / "n.qcow2").read_bytes() == bytes(MiB)

    play_on_both(peers, script)


def test_what_cannot_be_made_is_not_made_without_it(ours: Peer) -> None:
    """Encryption, or a file for the data that is the image itself: never left out silently."""
    empty(ours, "n.qcow2")
    ours.ok("blockdev-add", driver="file", node_name="f", filename="n.qcow2")
    secret = {"format": "luks", "key-secret": "s", "cipher-alg": "aes-256", "iter-time": 10}
    for wrong in ({"encrypt": secret}, {"encrypt": {"format": "qcow"}}, {"data-file": "f"}):
        ours.forget_events()
        options = {"driver": "qcow2", "file": "f", "size": MiB, **wrong}
        ours.ok("blockdev-create", job_id="job", options=options)
        ours.wait_for_status("concluded")
        (job,) = ours.ok("query-jobs")
        expected = "Permission conflict" if "data-file" in wrong else "Encrypted images"
        assert job["error"].startswith(expected)
        ours.ok("job-dismiss", id="job")
    assert (ours.folder / "n.qcow2").read_bytes() == bytes(MiB)


def test_files_too_large_and_empty_images_are_told_alike(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        empty(peer, "n.qcow2")
        (peer.folder / "n.qcow2").write_bytes(b"")
        create(peer, driver="file", filename="n.raw", size=(1 << 63) - 1)
        file = {"driver": "file", "filename": "n.qcow2"}
        peer.desc("blockdev-add", driver="qcow2", node_name="q", file=file)
        qemu_img(peer.folder, "create", "-f", "qcow2", "n.qcow2", "1M")
        for sizes in (
            {"cache-size": MiB, "l2-cache-size": 2 * MiB},
            {"cache-size": MiB, "refcount-cache-size": 2 * MiB},
            {"cache-size": MiB, "l2-cache-size": MiB, "refcount-cache-size": MiB},
        ):
            peer.desc("blockdev-add", driver="qcow2", node_name="q", file=file, **sizes)
        ignored = {"discard": "ignore", "detect-zeroes": "unmap"}
        peer.desc("blockdev-add", driver="qcow2", node_name="q", file=file, **ignored)

    play_on_both(peers, script)


def test_what_shows_a_qcow2_image_tells_its_clusters_and_what_is_inherited(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        qemu_img(peer.folder, "create", "-f", "qcow2", "q.qcow2", "1M")
        empty(peer, "t.raw")
        peer.add("t", "t.raw")
        file = {"driver": "file", "filename": "q.qcow2", "cache": {"direct": False}}
        peer.ok("blockdev-add", driver="qcow2", node_name="q", file=file, cache={"no-flush": True})
        peer.ok("blockdev-add", driver="blkdebug", node_name="bug", image="q")
        described(peer)
        peer.ok("blockdev-del", node_name="bug")
        mirror = {"job-id": "job", "device": "q", "target": "t", "sync": "none"}
        peer.ok("blockdev-mirror", mirror)
        peer.wait_for("BLOCK_JOB_READY")
        described(peer)

    def described(peer: Peer) -> None:
        nodes = peer.asked("query-named-block-nodes")
        told = [(node["drv"], node["cache"], node["image"].get("cluster-size")) for node in nodes]
        peer.messages.append({"return": told})

    play_on_both(peers, script)


def test_a_filter_bears_the_name_of_what_it_shows(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        empty(peer, "s.raw", "t.raw")
        for name in "st":
            peer.add(name, f"{name}.raw")
        for name, below in (("bug", "s"), ("top", "bug")):
            peer.ok("blockdev-add", driver="blkdebug", node_name=name, image=below)
        mirror = {"job-id": "job", "device": "top", "target": "t", "sync": "none"}
        peer.ok("blockdev-mirror", mirror)
        peer.wait_for("BLOCK_JOB_READY")
        nodes = peer.asked("query-named-block-nodes")
        told = [(each["drv"], each["file"], each["image"]["filename"]) for each in nodes]
        peer.messages.append({"return": told})

    play_on_both(peers, script)


def test_what_is_told_of_a_node_that_stores_nothing(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        empty(peer, "t.raw")
        peer.add("t", "t.raw")
        peer.ok("blockdev-add", driver="null-co", node_name="null")
        peer.ok("blockdev-add", driver="raw", node_name="raw", file="null")
        peer.ok("blockdev-add", driver="blkdebug", node_name="bug", image="null")
        nodes = peer.asked("query-named-block-nodes", flat=True)
        told = [(each["node-name"], each["image"].keys()) for each in nodes]
        peer.messages.append({"return": [(name, sorted(keys)) for name, keys in told]})

    play_on_both(peers, script)
