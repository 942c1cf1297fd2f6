"""The server's life: listening, connections and their limits, exports coming and going, the end."""

import logging
import socket
import stat
import threading
import time
from pathlib import Path

import pytest

from mirrorgui.block.memory import MemoryNode
from mirrorgui.errors import InvalidInput
from mirrorgui.nbd import wire
from mirrorgui.nbd.constants import Command, Option, Reply
from mirrorgui.nbd.export import Export
from mirrorgui.nbd.negotiation import TlsMode
from mirrorgui.nbd.server import NbdServer
from mirrorgui.nbd.uri import NbdAddress, parse_uri
from mirrorgui.units import MiB
from tests.nbd.support import (
    PATIENCE_S,
    RawClient,
    WaitingNode,
    pattern,
    serving,
    short_directory,
    wait_until,
)

LOOPBACK = NbdAddress(host="127.0.0.1", port=0)


def test_tcp_takes_a_free_port_and_tells_it():
    with serving(1 * MiB, address=LOOPBACK) as server:
        assert server.address.port > 0
        assert server.uri("disk") == f"nbd://127.0.0.1:{server.address.port}/disk"
        assert parse_uri(server.uri("a b")).export == "a b"
        with RawClient(server) as client:
            assert client.go()[-1][0] == Reply.ACK
            assert client.read(0, 16) == bytes(16)


def test_localhost_means_every_loopback_address():
    with serving(1 * MiB, address=NbdAddress(host="localhost", port=0)) as server:
        for host in {info[4][0] for info in socket.getaddrinfo("localhost", 0)}:
            try:
                socket.create_connection((host, server.address.port), PATIENCE_S).close()
            except OSError as error:
                assert ":" in host, error  # no IPv6 on this machine


def test_an_address_that_others_can_reach_must_be_allowed_and_is_logged(caplog):
    everywhere = NbdAddress(host="0.0.0.0", port=0)
    with pytest.raises(InvalidInput, match="allowed explicitly"):
        NbdServer(everywhere).start()
    assert not caplog.records
    with serving(1 * MiB, address=everywhere, allow_remote=True):
        pass
    assert "other machines may reach it, without encryption" in caplog.text


def test_an_address_in_use_is_refused():
    with serving(address=LOOPBACK) as server, pytest.raises(InvalidInput, match="in use"):
        NbdServer(server.address).start()
    with serving() as server, pytest.raises(InvalidInput, match="another server listens"):
        NbdServer(server.address).start()


def test_a_stale_socket_is_replaced_and_removed_in_the_end():
    with short_directory() as directory:
        path = directory / "s"
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(path))
        server = NbdServer(NbdAddress(socket_path=str(path)))
        server.add_export(Export("disk", MemoryNode(512)))
        server.start()
        with RawClient(server) as client:
            assert client.go()[-1][0] == Reply.ACK
        assert server.stop()
        assert not path.exists()


def test_what_is_no_socket_is_left_alone():
    with short_directory() as directory:
        path = directory / "s"
        path.write_text("precious")
        with pytest.raises(InvalidInput, match="not a socket"):
            NbdServer(NbdAddress(socket_path=str(path))).start()
        assert path.read_text() == "precious"


def test_a_socket_of_somebody_else_is_not_removed():
    with short_directory() as directory:
        path = directory / "s"
        server = NbdServer(NbdAddress(socket_path=str(path)))
        server.start()
        path.unlink()
        path.write_text("somebody else's")
        assert server.stop()
        assert path.exists()


def test_a_missing_directory_and_a_long_path_are_refused():
    with pytest.raises(InvalidInput, match="No such file"):
        NbdServer(NbdAddress(socket_path="/nowhere/at/all")).start()
    with pytest.raises(InvalidInput, match="too long"):
        NbdServer(NbdAddress(socket_path="/tmp/" + "a" * 200)).start()


def test_tls_needs_certificates():
    with pytest.raises(InvalidInput, match="certificates are needed"):
        NbdServer(LOOPBACK, tls_mode=TlsMode.REQUIRED)


def test_it_can_be_started_again_and_stopped_twice():
    with serving() as server:
        for _ in range(2):
            assert server.stop()
            assert server.stop()
            server.start()
            with RawClient(server) as client:
                client.go()
                client.write(0, b"abcd")


def test_the_default_export():
    only = NbdServer(LOOPBACK)
    only.add_export(Export("one", MemoryNode(512)))
    assert only.find("").name == "one"
    only.add_export(Export("two", MemoryNode(512)))
    assert only.find("") is None
    only.add_export(Export("three", MemoryNode(512)), default=True)
    assert only.find("").name == "three"
    only.add_export(Export("", MemoryNode(512)))
    assert only.find("").name == ""
    only.remove_export("")
    only.remove_export("three")
    assert only.find("") is None


@pytest.mark.parametrize("name", ["disk", "a\0b", "a" * 5000])
def test_names_that_no_export_can_have(name):
    with serving() as server, pytest.raises(InvalidInput, match="export"):
        server.add_export(Export(name, MemoryNode(512)))


def test_an_export_in_use_stays_unless_forced():
    with serving() as server:
        with RawClient(server) as client, RawClient(server) as other:
            client.go()
            with pytest.raises(InvalidInput, match="in use"):
                server.remove_export("disk")
            assert client.read(0, 4) == bytes(4)
            server.remove_export("disk", force=True)
            assert client.is_closed_by_server()
            assert other.go()[-1][0] == Reply.ERR_UNKNOWN
        with pytest.raises(InvalidInput, match="no such export"):
            server.remove_export("disk")
        server.add_export(Export("disk", MemoryNode(512)))
        with RawClient(server) as client:
            assert client.go()[-1][0] == Reply.ACK


def test_surplus_connections_are_closed_and_the_others_go_on(caplog):
    with serving(max_connections=3) as server:
        clients = [RawClient(server) for _ in range(3)]
        for client in clients:
            client.go()
        for _ in range(5):
            with RawClient(server, flags=None) as surplus:
                assert surplus.is_closed_by_server()
        assert [client.read(0, 2) for client in clients] == [b"\0\0"] * 3
        clients.pop().sock.close()
        wait_until(lambda: len(server.connections()) == 2)
        with RawClient(server) as client:
            assert client.go()[-1][0] == Reply.ACK
        for client in clients:
            client.sock.close()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "limit=3" in caplog.text


def test_a_silent_client_loses_its_place():
    with serving(handshake_timeout_s=0.1) as server, RawClient(server, flags=None) as client:
        client.receive(18)
        assert client.is_closed_by_server()
        wait_until(lambda: not server.connections())


def test_a_dribbling_client_loses_its_place_too():
    with serving(handshake_timeout_s=0.2) as server, RawClient(server) as client:
        started = time.monotonic()
        try:
            while time.monotonic() - started < PATIENCE_S:
                client.send(b"I"[:1])
                client.sock.settimeout(0.02)
                try:
                    if not client.sock.recv(1):
                        break
                except TimeoutError:
                    pass
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert time.monotonic() - started < PATIENCE_S


def test_after_the_handshake_a_client_may_be_silent_for_long():
    impatient = {"handshake_timeout_s": 0.1, "send_timeout_s": 0.1}
    with serving(**impatient) as server, RawClient(server) as client:
        client.go()
        time.sleep(0.3)
        assert client.read(0, 4) == bytes(4)


def test_a_client_that_never_reads_is_cut_off():
    with (
        serving(8 * MiB, send_timeout_s=0.2) as server,
        RawClient(server) as client,
        RawClient(server) as other,
    ):
        client.go()
        other.go()
        for _ in range(64):
            client.request(Command.READ, 0, 4 * MiB)
        assert other.read(0, 4) == bytes(4)
        wait_until(lambda: len(server.connections()) == 1)


def test_statistics_tell_what_each_connection_did():
    before = time.time()
    with serving(1 * MiB) as server, RawClient(server) as client:
        (look,) = server.connections()
        assert look.export is None
        client.go()
        client.write(0, pattern(4096))
        client.write(4096, pattern(512))
        client.read(0, 4096)
        client.error_of(Command.FLUSH)
        client.error_of(Command.TRIM, 0, 8192)
        client.error_of(Command.READ, 2 * MiB, 512)
        (look,) = server.connections()
        assert (look.export, look.encrypted, look.in_flight) == ("disk", False, 0)
        assert (look.reads, look.writes, look.flushes, look.errors) == (2, 3, 1, 1)
        assert (look.bytes_read, look.bytes_written) == (4096, 4096 + 512 + 8192)
        assert look.last_request == f"READ 512 at {2 * MiB}"
        assert before <= look.since <= look.last_request_at <= time.time()
        assert "(pid " in look.peer
        client.error_of(Command.FLUSH)
        assert server.connections()[0].last_request == "FLUSH"
    assert server.connections() == ()


def test_the_peer_of_a_tcp_connection_is_its_address():
    with serving(address=LOOPBACK) as server, RawClient(server) as client:
        client.go()
        host, port = client.sock.getsockname()
        assert server.connections()[0].peer == f"{host}:{port}"


def test_stopping_lets_requests_in_service_finish():
    node = WaitingNode(1 * MiB)
    with serving(node) as server, RawClient(server) as client:
        client.go()
        for _ in range(2):
            client.request(Command.READ, 0, 512)
        assert node.begun.acquire(timeout=PATIENCE_S)
        stopped = []
        stopping = threading.Thread(target=lambda: stopped.append(server.stop(PATIENCE_S)))
        stopping.start()
        wait_until(lambda: server._listener is None)
        assert not stopped
        node.open = True
        node.let.release(2)
        assert client.simple_reply().error == 0
        assert client.receive(512) == bytes(512)
        stopping.join()
        assert stopped == [True]
        assert client.is_closed_by_server()


def test_stopping_with_a_node_that_hangs_says_so_and_does_not_hang():
    node = WaitingNode(1 * MiB)
    with serving(node) as server, RawClient(server) as client:
        client.go()
        client.request(Command.READ, 0, 512)
        assert node.begun.acquire(timeout=PATIENCE_S)
        started = time.monotonic()
        assert not server.stop(0.1)
        assert time.monotonic() - started < 5
        assert client.is_closed_by_server()
        node.open = True
        node.let.release(2)


def test_stopping_during_a_handshake_ends_it():
    with serving() as server, RawClient(server) as client:
        started = time.monotonic()
        assert server.stop(PATIENCE_S)
        assert time.monotonic() - started < 5
        assert client.is_closed_by_server()


def test_a_client_that_leaves_during_requests_is_waited_for():
    node = WaitingNode(1 * MiB)
    with serving(node) as server:
        with RawClient(server) as client:
            client.go()
            for _ in range(4):
                client.request(Command.READ, 0, 512)
            assert node.begun.acquire(timeout=PATIENCE_S)
        node.open = True
        node.let.release(4)
        wait_until(lambda: not server.connections())


def test_a_write_is_on_the_node_before_it_is_answered_and_all_clients_see_it():
    with serving(1 * MiB) as server, RawClient(server) as one, RawClient(server) as two:
        one.go()
        two.go()
        for n in range(200):
            one.write(n * 512, pattern(512, n))
            assert two.read(n * 512, 512) == pattern(512, n)


def test_the_socket_is_a_socket_and_the_log_tells_who_came(caplog):
    caplog.set_level(logging.INFO)
    with serving() as server:
        assert stat.S_ISSOCK(Path(server.address.socket_path).stat().st_mode)
        with RawClient(server) as client:
            client.go()
            client.send(wire.pack_request(wire.Request(0, Command.DISC, 0, 0, 0)))
            assert client.is_closed_by_server()
        with RawClient(server) as client:
            client.option(Option.LIST)
            client.send(b"garbage that is no option at all")
            assert client.is_closed_by_server()
        wait_until(lambda: not server.connections())
    assert "client opened export=disk id=1" in caplog.text
    assert "client left export=disk id=1" in caplog.text
    assert "client lost id=2" in caplog.text
