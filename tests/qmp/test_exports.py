"""Commands upon exports: the same answers as qemu-storage-daemon's, and clients through a pivot."""

import socket
import subprocess
from pathlib import Path

import pytest

from tests.qmp.peers import Peer
from tests.qmp.scripts import MiB, play_on_both
from tests.qmp.test_nodes import empty, raw

pytestmark = pytest.mark.interop

Peers = tuple[Peer, Peer]

ADDRESS = {"type": "unix", "data": {"path": "n.sock"}}


def add(peer: Peer, export_id: str, node: str, **more: object) -> object:
    return peer.execute("block-export-add", type="nbd", id=export_id, node_name=node, **more)


def listed(peer: Peer) -> list[tuple[str, str]]:
    return [(one["id"], one["node-name"]) for one in peer.ok("query-block-exports")]


def test_servers_and_exports_are_refused_alike(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        empty(peer, "s.raw", "t.raw")
        peer.desc("nbd-server-stop")
        peer.desc("block-export-add", type="nbd", id="e", node_name="s")
        peer.ok("blockdev-add", raw("s"))
        peer.ok("blockdev-add", raw("t", **{"read-only": True}))
        peer.desc("block-export-add", type="nbd", id="e", node_name="s")
        where = {"type": "unix", "data": {"path": "/nonexistent/n.sock"}}
        peer.desc("nbd-server-start", addr={"type": "fd", "data": {"str": "3"}})
        peer.desc("nbd-server-start", addr=ADDRESS, tls_creds="nobody")
        peer.ok("nbd-server-start", addr=ADDRESS)
        peer.desc("nbd-server-start", addr=where)
        add(peer, "e", "s", writable=True, description="a disk")
        add(peer, "e", "t")
        add(peer, "1", "t")
        add(peer, "f", "t", name="s")
        add(peer, "f", "t", writable=True)
        add(peer, "f", "t", bitmaps=["nobody"])
        add(peer, "f", "t", iothread="nobody")
        add(peer, "f", "t", name="n" * 4097)
        add(peer, "f", "t", name="t")
        peer.ok("query-block-exports")
        peer.desc("block-export-del", id="nobody")
        peer.ok("block-export-del", id="e")
        peer.ok("query-block-exports")
        peer.ok("nbd-server-stop")
        peer.ok("query-block-exports")

    play_on_both(peers, script)


def connected(peer: Peer, export: str, *options: str) -> "subprocess.Popen[str]":
    """A client that stays until its input ends."""
    uri = f"nbd+unix:///{export}?socket={peer.folder / 'n.sock'}"
    client = subprocess.Popen(
        ["qemu-io", *options, "-f", "raw", uri],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert client.stdin is not None and client.stdout is not None
    client.stdin.write("length\n")
    client.stdin.flush()
    while "1 MiB" not in client.stdout.readline():
        assert client.poll() is None
    return client


def test_an_export_with_a_client_goes_only_when_forced(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        empty(peer, "s.raw")
        peer.ok("blockdev-add", raw("s"))
        peer.ok("nbd-server-start", addr=ADDRESS)
        add(peer, "e", "s")
        client = connected(peer, "s", "-r")
        try:
            peer.desc("block-export-del", id="e")
            peer.ok("block-export-del", id="e", mode="hard")
            peer.wait_for("BLOCK_EXPORT_DELETED", id="e")
            peer.ok("blockdev-del", node_name="s")
        finally:
            client.communicate()

    play_on_both(peers, script)


def test_every_export_of_the_source_follows_a_pivot(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        empty(peer, "s.raw", "t.raw")
        for name in "st":
            peer.ok("blockdev-add", raw(name))
        peer.ok("nbd-server-start", addr=ADDRESS)
        add(peer, "before", "s", name="before", writable=True)
        peer.forget_events()
        peer.ok(
            "blockdev-mirror",
            job_id="job",
            device="s",
            target="t",
            sync="none",
            filter_node_name="F",
        )
        peer.wait_for("BLOCK_JOB_READY")
        add(peer, "during", "s", name="during")
        add(peer, "top", "F", name="top", writable=True)
        add(peer, "target", "t")
        peer.ok("query-block-exports")
        peer.ok("block-job-complete", device="job")
        peer.wait_for_status("null")
        peer.ok("query-block-exports")
        peer.ok("blockdev-del", node_name="s")
        peer.desc("blockdev-del", node_name="t")

    play_on_both(peers, script)


def test_a_client_writes_on_through_two_pivots(ours: Peer) -> None:
    empty(ours, "s.raw", "t.raw")
    for name in "st":
        ours.ok("blockdev-add", raw(name))
    ours.ok("nbd-server-start", addr=ADDRESS)
    add(ours, "e", "s", writable=True)
    client = connected(ours, "s")
    assert client.stdin is not None and client.stdout is not None
    try:
        for byte, (device, target) in enumerate((("s", "t"), ("t", "s")), start=1):
            ours.forget_events()
            ours.ok("blockdev-mirror", job_id="job", device=device, target=target, sync="full")
            ours.wait_for("BLOCK_JOB_READY")
            ours.ok("block-job-complete", device="job")
            ours.wait_for_status("null")
            client.stdin.write(f"write -P {byte} {byte * 64}k 64k\n")
            client.stdin.flush()
            while "wrote" not in client.stdout.readline():
                assert client.poll() is None
            assert listed(ours) == [("e", target)]
            assert_holds(ours.folder / f"{target}.raw", byte, byte * 64 * 1024)
    finally:
        client.communicate()


def assert_holds(path: Path, byte: int, offset: int) -> None:
    data = path.read_bytes()
    assert data[offset : offset + 64 * 1024] == bytes([byte]) * (64 * 1024)


def test_a_server_listens_on_tcp_too(ours: Peer) -> None:
    ours.ok("blockdev-add", driver="null-co", node_name="n", size=MiB)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    data = {"host": "127.0.0.1", "port": str(port)}
    ours.ok("nbd-server-start", {"addr": {"type": "inet", "data": data}, "max-connections": 2})
    add(ours, "e", "n")
    uri = f"nbd://127.0.0.1:{port}/n"
    told = subprocess.run(["nbdinfo", "--size", uri], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == str(MiB)
    wrong = {"host": "127.0.0.1", "port": "no-port"}
    ours.ok("nbd-server-stop")
    refused = ours.desc("nbd-server-start", addr={"type": "inet", "data": wrong})
    assert refused.startswith("address resolution failed for 127.0.0.1:no-port: ")


def test_options_of_exports_are_refused_alike(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        empty(peer, "s.raw")
        peer.ok("blockdev-add", raw("s"))
        peer.ok("nbd-server-start", addr=ADDRESS)
        for bitmap in ("b", {"node": "s", "name": "b"}, {"node": "nobody", "name": "b"}):
            refused = add(peer, "e", "s", bitmaps=[bitmap])
            assert isinstance(refused, dict)
            assert "error" in refused
        assert peer.ok("query-block-exports") == []

    play_on_both(peers, script)


@pytest.mark.parametrize("writethrough", [True, False])
@pytest.mark.parametrize("command", ["write 0 4k", "write -z 0 4k", "discard 0 4k", "write 0 2M"])
def test_writethrough_makes_each_change_stable(
    ours: Peer, command: str, *, writethrough: bool
) -> None:
    (ours.folder / "s.raw").write_bytes(bytes(4 * MiB))
    fails = {"event": "none", "iotype": "flush"}
    file = {"driver": "file", "filename": "s.raw"}
    bug = {"driver": "blkdebug", "image": file, "inject-error": [fails], "node-name": "s"}
    ours.ok("blockdev-add", bug)
    ours.ok("nbd-server-start", addr=ADDRESS)
    add(ours, "e", "s", writable=True, writethrough=writethrough)
    uri = f"nbd+unix:///s?socket={ours.folder / 'n.sock'}"
    run = ["qemu-io", "-f", "raw", "-t", "writeback", "-c", command, "-c", "read 0 4k", uri]
    told = subprocess.run(run, capture_output=True, text=True, check=False)
    assert ("Input/output error" in told.stdout.partition("read ")[0]) == writethrough, told


def test_an_option_that_would_have_no_effect_is_refused(ours: Peer) -> None:
    ours.ok("blockdev-add", driver="null-co", node_name="n", size=MiB)
    ours.ok("nbd-server-start", addr=ADDRESS)
    refused = add(ours, "e", "n", **{"allocation-depth": True})
    assert isinstance(refused, dict)
    assert refused["error"]["desc"] == "Option 'allocation-depth' is not supported"
    assert add(ours, "e", "n", **{"allocation-depth": False}) == {"return": {}}
