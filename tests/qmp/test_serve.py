"""``mirrorgui serve`` and ``run --qmp`` as processes: how they begin, and how they end."""

import signal
import socket
import stat
import time
from pathlib import Path

import pytest

from tests.qmp.peers import SOCKET, Connection, Peer, running, start_daemon, start_ours
from tests.qmp.scripts import KiB, MiB, images, mirror, pattern, statuses
from tests.running import mirrorgui, mirroring

SLOW = {"speed": 1, "buf_size": 64 * KiB}


def ended(peer: Peer) -> list[str]:
    """Read to the end; returns what the job went through since its start."""
    while peer.receive() is not None:
        pass
    assert peer.ended
    return statuses(peer.events())


@pytest.mark.parametrize("start", [start_ours, start_daemon])
@pytest.mark.parametrize("is_ready", [False, True])
def test_s91_quit_cancels_at_once(tmp_path: Path, start, is_ready: bool) -> None:
    with running(start, tmp_path) as peer:
        images(peer, 4 * MiB)
        mirror(peer, **({} if is_ready else SLOW))
        if is_ready:
            peer.wait_for("BLOCK_JOB_READY")
        began = time.monotonic()
        peer.forget_events()
        assert peer.execute("quit") == {"return": {}}
        told = ended(peer)
        # QEMU pauses jobs before, to drain them.
        assert told[-4:] == ["aborting", "BLOCK_JOB_CANCELLED", "concluded", "null"]
        assert peer.process.wait(5) == 0
        assert time.monotonic() - began < 3
        assert not (tmp_path / SOCKET).exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_s91_a_signal_cancels_at_once_and_clients_are_told(tmp_path: Path, number: int) -> None:
    with running(start_ours, tmp_path) as peer:
        images(peer, 4 * MiB)
        mirror(peer, **SLOW)
        peer.forget_events()
        peer.process.send_signal(number)
        assert ended(peer) == ["aborting", "BLOCK_JOB_CANCELLED", "concluded", "null"]
        assert peer.process.wait(5) == 0
        assert not (tmp_path / SOCKET).exists()


def test_quit_ends_exports_and_other_clients(tmp_path: Path) -> None:
    with running(start_ours, tmp_path) as peer:
        images(peer)
        peer.ok("nbd-server-start", addr={"type": "unix", "data": {"path": "nbd.sock"}})
        peer.ok("block-export-add", type="nbd", id="e", node_name="s")
        other = peer.another()
        assert peer.execute("quit") == {"return": {}}
        while other.receive() is not None:
            pass
        assert other.ended
        other.close()
        assert peer.process.wait(5) == 0
        assert not (tmp_path / "nbd.sock").exists()


def test_a_place_that_is_taken_is_refused(tmp_path: Path) -> None:
    with running(start_ours, tmp_path):
        told = mirrorgui("serve", "--qmp", tmp_path / SOCKET)
        assert told.returncode == 2
        assert "another program listens there" in told.stderr
        assert (tmp_path / SOCKET).exists()


def test_a_dead_socket_is_replaced_and_only_its_owner_can_open_it(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / SOCKET))
    with running(start_ours, tmp_path) as peer:
        assert stat.S_IMODE((tmp_path / SOCKET).stat().st_mode) == 0o600
        assert peer.ok("query-jobs") == []


@pytest.mark.parametrize("address", ["tcp:0.0.0.0:4444", "tcp:localhost:x", "unix:"])
def test_an_address_that_makes_no_sense_is_wrong_usage(address: str) -> None:
    told = mirrorgui("serve", "--qmp", address)
    assert told.returncode == 2
    assert told.stderr.startswith("mirrorgui: qmp: ")


def test_a_run_can_be_watched_and_completed(tmp_path: Path) -> None:
    source, target, sock = (tmp_path / name for name in ("s.raw", "t.raw", "run.sock"))
    source.write_bytes(pattern(MiB))
    with mirroring(source, target, "--finish", "wait", "--qmp", sock) as run:
        run.wait_for("BLOCK_JOB_READY")
        client = Connection(sock)
        assert client.ok("query-block-jobs")[0]["status"] == "ready"
        client.ok("job-complete", id="mirror0")
        client.wait_for_status("null", "mirror0")
        client.close()
        assert run.end() == 0
    assert target.read_bytes() == source.read_bytes()
    assert not sock.exists()


def test_quit_cancels_a_run(tmp_path: Path) -> None:
    source, target, sock = (tmp_path / name for name in ("s.raw", "t.raw", "run.sock"))
    source.write_bytes(pattern(4 * MiB))
    with mirroring(source, target, "--speed", "1", "--qmp", sock) as run:
        run.wait_for("JOB_STATUS_CHANGE", status="running")
        client = Connection(sock)
        client.ok("quit")
        assert client.events()[-1][1] == {"id": "mirror0", "status": "null"}
        client.close()
        assert run.end() == 130
    assert not sock.exists()


def test_an_address_that_is_refused_lets_a_run_touch_nothing(tmp_path: Path) -> None:
    source = tmp_path / "s.raw"
    source.write_bytes(pattern(MiB))
    told = mirrorgui("run", source, tmp_path / "t.raw", "--qmp", "tcp:10.0.0.1:4444")
    assert told.returncode == 2
    assert "only localhost" in told.stderr
    assert not (tmp_path / "t.raw").exists()
