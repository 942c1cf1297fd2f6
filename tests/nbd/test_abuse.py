"""What a hostile or dying client may do: no crash, no wrong byte, no memory, no half write."""

import random
import resource
import socket
import threading

import pytest

from mirrorgui.block.memory import MemoryNode
from mirrorgui.nbd import handshake, wire
from mirrorgui.nbd.constants import Command, Option, Reply
from mirrorgui.units import KiB, MiB
from tests.nbd.support import PATIENCE_S, RawClient, pattern, serving, wait_until


def session(*, structured: bool) -> bytes:
    """Return everything that a client sends in a short life, from its flags to its goodbye."""
    request = handshake.pack_info_request(handshake.InfoRequest("disk", (3,)))
    options = [handshake.pack_option(Option.LIST)]
    if structured:
        meta = handshake.MetaRequest("disk", ("base:allocation",))
        options.append(handshake.pack_option(Option.STRUCTURED_REPLY))
        options.append(
            handshake.pack_option(Option.SET_META_CONTEXT, handshake.pack_meta_request(meta))
        )
    options.append(handshake.pack_option(Option.GO, request))
    requests = [
        wire.pack_request(wire.Request(0, Command.WRITE, 1, 512, 64)) + b"n" * 64,
        wire.pack_request(wire.Request(0, Command.READ, 2, 0, 1024)),
        wire.pack_request(wire.Request(0, Command.WRITE_ZEROES, 3, 4096, 512)),
        wire.pack_request(wire.Request(0, Command.BLOCK_STATUS, 4, 0, 4096)),
        wire.pack_request(wire.Request(0, Command.FLUSH, 5, 0, 0)),
        wire.pack_request(wire.Request(0, Command.DISC, 6, 0, 0)),
    ]
    return handshake.CLIENT_FLAGS.pack(3) + b"".join(options + requests)


@pytest.mark.parametrize("structured", [False, True])
def test_a_client_may_vanish_at_every_byte(structured):
    node = MemoryNode(pattern(64 * KiB))
    whole = session(structured=structured)
    old, new = pattern(64 * KiB)[512:576], b"n" * 64
    after_write = whole.index(b"n" * 64) + 64
    with serving(node) as server:
        for length in range(len(whole)):
            node.write(512, old)
            with RawClient(server, flags=None) as client:
                client.send(whole[:length])
            wait_until(lambda: server.accepted > length and not server.connections())  # noqa: B023
            now = bytearray(64)
            node.read_into(512, now)
            # All of a write or nothing of it, and nothing before its last byte has come.
            assert now in (old, new)
            assert now == old or length >= after_write
        with RawClient(server) as client:
            assert client.go()[-1][0] == Reply.ACK
            assert client.read(8192, 64) == pattern(64 * KiB)[8192:8256]


def test_a_large_write_that_is_cut_short_is_never_begun():
    node = MemoryNode(pattern(4 * MiB))
    with serving(node) as server:
        for count, cut in enumerate((1, 40_000, 2 * MiB - 1)):
            with RawClient(server) as client:
                client.go()
                header = wire.Request(0, Command.WRITE, 1, 0, 2 * MiB)
                client.send(wire.pack_request(header) + b"n" * cut)
            wait_until(lambda: server.accepted > count and not server.connections())  # noqa: B023
        assert bytes(node_content(node, 4 * MiB)) == pattern(4 * MiB)


def node_content(node, length):
    content = bytearray(length)
    node.read_into(0, content)
    return content


@pytest.mark.parametrize("seed", range(8))
def test_garbage_at_any_stage_ends_the_connection_only(seed):
    rng = random.Random(seed)
    with serving(pattern_node()) as server:
        for stage in range(3):
            for _ in range(10):
                with RawClient(server, flags=3 if stage else None) as client:
                    if stage == 2:
                        client.go(structured=bool(seed % 2))
                    garbage = rng.randbytes(rng.randrange(1, 3000))
                    try:
                        client.send(garbage)
                        client.sock.shutdown(socket.SHUT_WR)
                    except OSError:
                        pass  # it was quicker
                    assert client.is_closed_by_server()
        with RawClient(server) as client:
            client.go()
            assert client.read(0, 4096) == pattern(4096)


def pattern_node():
    return MemoryNode(pattern(256 * KiB))


def mutated(rng: random.Random, data: bytes) -> bytes:
    """Return a session with a few bytes changed, removed, doubled or made extreme."""
    data = bytearray(data)
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(len(data))
        kind = rng.randrange(4)
        if kind == 0:
            data[at] = rng.randrange(256)
        elif kind == 1:
            del data[at : at + rng.randrange(1, 9)]
        elif kind == 2:
            data[at:at] = data[at : at + rng.randrange(1, 40)]
        else:
            data[at : at + 4] = rng.choice([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff"])
    return bytes(data)


@pytest.mark.parametrize("seed", range(4))
def test_mutated_sessions_do_no_harm(seed):
    """A deterministic fuzz run: whatever comes, the server lives and other data stays."""
    rng = random.Random(seed)
    canary = pattern(64 * KiB, 99)
    node = MemoryNode(pattern(256 * KiB))
    with serving(node) as server, RawClient(server) as witness:
        witness.go()
        for turn in range(100):
            witness.write(128 * KiB, canary)
            with RawClient(server, flags=None) as client:
                data = mutated(rng, session(structured=bool(turn % 2)))
                drain = threading.Thread(target=client.is_closed_by_server)
                drain.start()
                try:
                    client.send(data)
                    client.sock.shutdown(socket.SHUT_WR)
                except OSError:
                    pass  # hung up on: that is an answer
                drain.join()
            assert server.connections()[0].export == "disk"
        assert len(witness.read(0, 64 * KiB)) == 64 * KiB
        wait_until(lambda: len(server.connections()) == 1)


def test_announced_payloads_cost_no_memory():
    with serving(64 * MiB, max_connections=64) as server:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        clients = [RawClient(server) for _ in range(32)]
        for client in clients:
            client.go()
            header = wire.Request(0, Command.WRITE, 1, 0, 32 * MiB)
            client.send(wire.pack_request(header) + b"x" * 1000)
        wait_until(lambda: len(server.connections()) == 32)
        with RawClient(server) as client:
            client.go()
            assert client.read(0, 16) == bytes(16)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * KiB
        assert grown < 128 * MiB  # 1 GiB was announced
        for client in clients:
            client.sock.close()


def test_five_hundred_connections(caplog):
    with serving(1 * MiB) as server:
        clients = []
        for _ in range(500):
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(server.address.socket_path)
            sock.settimeout(PATIENCE_S)
            clients.append(sock)
        served = 0
        for sock in clients:
            served += sock.recv(18) != b""
        assert served == server.max_connections
        for sock in clients:
            sock.close()
        wait_until(lambda: not server.connections())
        with RawClient(server) as client:
            client.go()
            assert client.read(0, 16) == bytes(16)
    assert len(caplog.records) == 1
