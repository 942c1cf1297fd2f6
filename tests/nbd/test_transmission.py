"""The server's transmission phase, request by request, as a client sees it on the wire."""

import errno
import threading

import pytest

from mirrorgui.block.memory import MemoryNode
from mirrorgui.errors import BlockIOError
from mirrorgui.nbd import wire
from mirrorgui.nbd.constants import ChunkType, Command, CommandFlag
from mirrorgui.nbd.export import Export
from mirrorgui.units import KiB, MiB
from tests.nbd.support import (
    PATIENCE_S,
    RawClient,
    WaitingNode,
    pattern,
    serving,
    wait_until,
)

FUA = CommandFlag.FUA
CONTEXTS = ("base:allocation", "qemu:dirty-bitmap:job")


class RecordingNode(MemoryNode):
    """Remembers what was asked for, in order; fails where it is told to."""

    def __init__(self, size, **options):
        super().__init__(size, **options)
        self.calls = []
        self.bad = {}

    def _note(self, name, *details):
        self.calls.append((name, *details))
        if name in self.bad:
            raise BlockIOError(name, 0, 0, self.bad[name])

    def read_into(self, offset, buffer):
        self._note("read", offset, len(buffer))
        super().read_into(offset, buffer)

    def write(self, offset, data):
        self._note("write", offset, len(data))
        super().write(offset, data)

    def write_zeroes(self, offset, length, *, may_unmap=True):
        self._note("write_zeroes", offset, length, may_unmap)
        super().write_zeroes(offset, length, may_unmap=may_unmap)

    def discard(self, offset, length):
        self._note("discard", offset, length)
        super().discard(offset, length)

    def flush(self):
        self._note("flush")
        super().flush()


class Bitmap:
    granularity = 64 * KiB

    def dirty_extents(self, offset, length):
        end = offset + length
        while offset < end:
            step = min(self.granularity - offset % self.granularity, end - offset)
            yield step, bool(offset // self.granularity % 2)
            offset += step


@pytest.fixture
def node():
    return RecordingNode(4 * MiB)


@pytest.fixture
def client(node):
    with serving(node) as server, RawClient(server) as client:
        client.go()
        yield client


@pytest.fixture
def structured(node):
    with serving(0) as server:
        server.add_export(Export("x", node, bitmaps={"job": Bitmap()}))
        with RawClient(server) as client:
            client.go("x", contexts=CONTEXTS)
            yield client


def test_what_is_written_is_read_back(client):
    data = pattern(5000)
    client.write(1234, data)
    assert client.read(1234, 5000) == data
    assert client.read(0, 1300)[1234:] == data[:66]


def test_many_requests_in_one_packet_are_answered_in_order(client):
    data = [pattern(4096, seed) for seed in range(32)]
    request = b"".join(
        wire.pack_request(wire.Request(0, Command.WRITE, n, n * 4096, 4096)) + data[n]
        for n in range(32)
    )
    client.send(request)
    assert [client.simple_reply() for _ in range(32)] == [wire.SimpleReply(0, n) for n in range(32)]
    client.send(
        b"".join(
            wire.pack_request(wire.Request(0, Command.READ, n, n * 4096, 4096)) for n in range(32)
        )
    )
    for n in range(32):
        assert client.simple_reply() == wire.SimpleReply(0, n)
        assert client.receive(4096) == data[n]


@pytest.mark.parametrize("size", [1, 100, 32 * KiB, 300 * KiB, 700 * KiB, 3 * MiB])
def test_payloads_of_every_size_arrive_whole_however_they_are_cut(client, size):
    data = pattern(size)
    header = wire.pack_request(wire.Request(0, Command.WRITE, 77, 17, size))
    message = header + data + wire.pack_request(wire.Request(0, Command.FLUSH, 78, 0, 0))
    for start, end in ((0, 5), (5, 40), (40, 70_000), (70_000, len(message))):
        client.send(message[start:end])
    assert {client.simple_reply().cookie for _ in range(2)} == {77, 78}
    assert client.read(17, size) == data


def test_small_writes_that_do_not_end_with_the_buffer(client):
    # 300 requests of 3000 bytes fill the receive buffer several times, at odd positions.
    data = pattern(3000)
    message = b"".join(
        wire.pack_request(wire.Request(0, Command.WRITE, n, n * 3000, 3000)) + data
        for n in range(300)
    )
    sender = threading.Thread(target=client.send, args=(message,))
    sender.start()
    assert [client.simple_reply().cookie for _ in range(300)] == list(range(300))
    sender.join()
    assert client.read(0, 900_000) == data * 300


def test_structured_reads_come_in_one_chunk_or_in_pieces(structured, node):
    data = pattern(2 * MiB)
    node.write(0, data)
    assert structured.structured_read(0, 4096) == (data[:4096], 1)
    read, chunks = structured.structured_read(100, 2 * MiB - 100)
    assert read == data[100:]
    assert chunks == 8
    assert structured.structured_read(5, 2 * MiB - 5, flags=CommandFlag.DF) == (data[5:], 1)


def test_an_error_after_some_pieces_is_the_last_chunk(structured, node):
    class Once(dict):
        def __contains__(self, name):
            return sum(call[0] == "read" for call in node.calls) > 2

    node.bad = Once({"read": errno.EIO})
    structured.request(Command.READ, 0, 1 * MiB)
    for _ in range(2):
        chunk, _ = structured.chunk()
        assert chunk.type == ChunkType.OFFSET_DATA
        assert not chunk.is_last
    chunk, payload = structured.chunk()
    assert chunk.is_last
    assert wire.parse_error(chunk.type, payload).error == 5


def test_reads_of_nothing(client, structured):
    client.request(Command.READ, 0, 0)
    assert client.simple_reply().error == 0
    structured.request(Command.READ, 0, 0)
    chunk, payload = structured.chunk()
    assert (chunk.type, chunk.is_last, payload) == (ChunkType.NONE, True, b"")


@pytest.mark.parametrize("command", [Command.WRITE, Command.TRIM, Command.WRITE_ZEROES])
def test_changes_of_nothing_succeed_and_reach_no_node(client, node, command):
    assert client.error_of(command, 5, 0) == 0
    assert node.calls == []


SIZE = 4 * MiB


@pytest.mark.parametrize(
    ("command", "flags", "offset", "length", "error"),
    [
        (Command.READ, 0, SIZE, 1, 22),
        (Command.READ, 0, SIZE - 1, 2, 22),
        (Command.READ, 0, 2**64 - 1, 1, 22),
        (Command.READ, 0, 0, 2**32 - 1, 22),
        (Command.READ, 0, 0, 32 * MiB + 1, 22),
        (Command.READ, CommandFlag.NO_HOLE, 0, 512, 22),
        (Command.READ, 1 << 15, 0, 512, 22),
        (Command.TRIM, 0, SIZE, 1, 22),
        (Command.TRIM, CommandFlag.DF, 0, 512, 22),
        (Command.WRITE_ZEROES, 0, SIZE - 1, 2, 28),
        (Command.WRITE_ZEROES, 0, 0, 2**32 - 1, 28),
        (Command.WRITE_ZEROES, CommandFlag.REQ_ONE, 0, 512, 22),
        (Command.CACHE, 0, SIZE, 1, 22),
        (Command.CACHE, 0, 0, 2**32 - 1, 22),
        (Command.FLUSH, 0, 1, 0, 22),
        (Command.FLUSH, 0, 0, 1, 22),
        (Command.BLOCK_STATUS, 0, 0, 512, 22),
        (8, 0, 0, 0, 22),
        (0xFFFF, 0xFFFF, 2**64 - 1, 2**32 - 1, 22),
    ],
)
def test_bad_requests_get_the_documented_error_and_touch_nothing(
    client, node, command, flags, offset, length, error
):
    assert client.error_of(command, offset, length, flags=flags) == error
    assert node.calls == []
    assert client.read(0, 16) == bytes(16)


@pytest.mark.parametrize(
    ("flags", "offset", "length", "error"),
    [
        (0, SIZE - 1, 100, 28),
        (0, 2**64 - 1, 100, 28),
        (CommandFlag.NO_HOLE, 0, 100, 22),
        (0, SIZE - 1, 100_000, 28),
        (0, 0, 32 * MiB + 1, 22),
    ],
)
def test_the_payload_of_a_refused_write_is_skipped(client, node, flags, offset, length, error):
    assert client.error_of(Command.WRITE, offset, flags=flags, data=bytes(length)) == error
    assert node.calls == []
    assert client.read(0, 16) == bytes(16)


def test_an_absurd_payload_is_refused_and_ends_the_connection(client, node):
    client.request(Command.WRITE, 0, 2**32 - 1)
    assert client.simple_reply().error == 22
    assert client.is_closed_by_server()
    assert node.calls == []


def test_block_status_of_nothing_is_invalid(structured):
    assert structured.error_of(Command.BLOCK_STATUS, 0, 0) == 22
    assert structured.error_of(Command.BLOCK_STATUS, SIZE, 1) == 22


def test_structured_errors_carry_a_text(structured):
    structured.request(Command.READ, SIZE, 512)
    chunk, payload = structured.chunk()
    assert "beyond" in wire.parse_error(chunk.type, payload).message


@pytest.mark.parametrize("command", [Command.WRITE, Command.TRIM, Command.WRITE_ZEROES])
@pytest.mark.parametrize("node_is", [True, False])
def test_read_only_exports_refuse_changes(command, node_is):
    node = MemoryNode(1 * MiB, read_only=node_is)
    with serving(0) as server:
        server.add_export(Export("ro", node, read_only=not node_is))
        with RawClient(server) as client:
            client.go("ro")
            data = bytes(512) if command == Command.WRITE else b""
            assert client.error_of(command, 0, 512, data=data) == 1
            assert client.error_of(Command.FLUSH) == 0
            assert client.read(0, 16) == bytes(16)


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (errno.EIO, 5),
        (errno.ENOSPC, 28),
        (errno.EDQUOT, 28),
        (errno.EPERM, 1),
        (errno.EOPNOTSUPP, 22),
        (errno.ETIMEDOUT, 5),
    ],
)
@pytest.mark.parametrize(
    ("command", "name"),
    [
        (Command.READ, "read"),
        (Command.WRITE, "write"),
        (Command.WRITE_ZEROES, "write_zeroes"),
        (Command.TRIM, "discard"),
        (Command.FLUSH, "flush"),
        (Command.CACHE, "read"),
    ],
)
def test_errors_of_the_node_become_the_protocols(client, node, command, name, number, error):
    node.bad[name] = number
    data = bytes(512) if command == Command.WRITE else b""
    length = 0 if command == Command.FLUSH else 512
    assert client.error_of(command, 0, length, data=data) == error
    node.bad.clear()
    assert client.read(0, 16) == bytes(16)


def test_force_unit_access_flushes_before_the_reply(client, node):
    client.write(0, b"abcd", flags=FUA)
    assert client.error_of(Command.WRITE_ZEROES, 0, 512, flags=FUA) == 0
    assert client.error_of(Command.TRIM, 0, 512, flags=FUA) == 0
    assert [call[0] for call in node.calls] == [
        "write",
        "flush",
        "write_zeroes",
        "flush",
        "discard",
        "flush",
    ]
    # Accepted everywhere, as the specification asks.
    for command in (Command.READ, Command.FLUSH, Command.CACHE):
        length = 0 if command == Command.FLUSH else 16
        client.request(command, 0, length, flags=FUA)
        assert client.simple_reply().error == 0
        if command == Command.READ:
            client.receive(16)


def test_no_hole_reaches_the_node(client, node):
    assert client.error_of(Command.WRITE_ZEROES, 0, 512) == 0
    assert client.error_of(Command.WRITE_ZEROES, 512, 512, flags=CommandFlag.NO_HOLE) == 0
    assert node.calls == [("write_zeroes", 0, 512, True), ("write_zeroes", 512, 512, False)]


@pytest.mark.parametrize(("can_zero", "error"), [(True, 0), (False, 95)])
def test_fast_zero_fails_at_once_where_zeroes_are_not_fast(can_zero, error):
    node = RecordingNode(1 * MiB, can_zero=can_zero)
    with serving(node) as server, RawClient(server) as client:
        client.go()
        fast = CommandFlag.FAST_ZERO
        assert client.error_of(Command.WRITE_ZEROES, 0, 512, flags=fast) == error
        assert client.error_of(Command.WRITE_ZEROES, 0, 512) == 0
        assert len(node.calls) == (2 if can_zero else 1)


def test_cache_reads_the_range(client, node):
    assert client.error_of(Command.CACHE, 100, 3 * MiB) == 0
    assert node.calls == [
        ("read", 100, MiB),
        ("read", 100 + MiB, MiB),
        ("read", 100 + 2 * MiB, MiB),
    ]


def statuses(client, offset, length, flags=0):
    cookie = client.request(Command.BLOCK_STATUS, offset, length, flags=flags)
    found = {}
    while True:
        chunk, payload = client.chunk()
        assert (chunk.cookie, chunk.type) == (cookie, ChunkType.BLOCK_STATUS)
        context_id, runs = wire.parse_block_status(payload)
        found[context_id] = runs
        if chunk.is_last:
            return found


def test_block_status_tells_allocation_and_dirt(structured, node):
    node.write(128 * KiB, pattern(64 * KiB))
    node.write(192 * KiB, pattern(64 * KiB))
    node.write_zeroes(256 * KiB, 64 * KiB)
    assert statuses(structured, 0, 512 * KiB) == {
        0: [(128 * KiB, 3), (128 * KiB, 0), (256 * KiB, 3)],
        1: [(64 * KiB, n % 2) for n in range(8)],
    }
    assert statuses(structured, 100 * KiB, 50 * KiB) == {
        0: [(28 * KiB, 3), (22 * KiB, 0)],
        1: [(28 * KiB, 1), (22 * KiB, 0)],
    }
    assert statuses(structured, 0, 512 * KiB, CommandFlag.REQ_ONE) == {
        0: [(128 * KiB, 3)],
        1: [(64 * KiB, 0)],
    }


def test_block_status_of_a_backing_chain_is_what_a_guest_reads():
    base = MemoryNode(pattern(1 * MiB))
    overlay = MemoryNode(2 * MiB, backing=base)
    overlay.write_zeroes(0, 64 * KiB)
    with serving(overlay) as server, RawClient(server) as client:
        client.go(contexts=("base:allocation",))
        assert statuses(client, 0, 2 * MiB) == {0: [(64 * KiB, 3), (MiB - 64 * KiB, 0), (MiB, 3)]}


def test_block_status_has_a_bounded_number_of_runs():
    node = MemoryNode(64 * MiB)
    for offset in range(0, 64 * MiB, 128 * KiB):
        node.write(offset, b"x")
    node.write(64 * MiB - 1, b"x")
    with serving(node) as server, RawClient(server) as client:
        client.go(contexts=("base:allocation",))
        (runs,) = statuses(client, 0, 64 * MiB).values()
        assert len(runs) == 512
        covered = sum(length for length, _ in runs)
        (rest,) = statuses(client, covered, 64 * MiB - covered).values()
        assert covered + sum(length for length, _ in rest) == 64 * MiB


def test_a_failing_allocation_query_is_an_error(node):
    class Failing(RecordingNode):
        def extents(self, offset, length):
            raise BlockIOError("extents", offset, length, errno.EIO)

    with serving(Failing(SIZE)) as server, RawClient(server) as client:
        client.go(contexts=("base:allocation",))
        assert client.error_of(Command.BLOCK_STATUS, 0, 512) == 5


def test_goodbye_ends_the_connection_after_what_came_before(client, node):
    client.send(
        wire.pack_request(wire.Request(0, Command.WRITE, 1, 0, 4))
        + b"abcd"
        + wire.pack_request(wire.Request(0, Command.DISC, 2, 0, 0))
    )
    assert client.simple_reply() == wire.SimpleReply(0, 1)
    assert client.is_closed_by_server()
    assert node.calls == [("write", 0, 4)]


def test_a_wrong_magic_ends_the_connection(client):
    client.send(b"\x12\x34\x56\x78" + bytes(24))
    assert client.is_closed_by_server()


def test_an_export_without_any_bytes():
    with serving(0) as server, RawClient(server) as client:
        client.go()
        assert client.error_of(Command.READ, 0, 1) == 22
        assert client.error_of(Command.WRITE, 0, data=b"x") == 28
        assert client.error_of(Command.FLUSH) == 0


# Requests that wait for a device


@pytest.fixture
def waiting():
    node = WaitingNode(1 * MiB)
    node.write(0, pattern(1 * MiB))
    with serving(node) as server, RawClient(server) as client:
        client.go()
        yield node, client
        node.open = True
        node.let.release(100)


def test_reads_that_wait_are_served_side_by_side(waiting):
    node, client = waiting
    cookies = [client.request(Command.READ, n * 4096, 4096) for n in range(2)]
    client.send(
        b"".join(
            wire.pack_request(wire.Request(0, Command.READ, 100 + n, n * 4096, 4096))
            for n in range(8)
        )
    )
    for _ in range(3):
        # More than one is inside the node before any has come back.
        assert node.begun.acquire(timeout=PATIENCE_S)
        if _ == 0:
            node.let.release()  # the first one alone may have held the connection's own thread
    node.let.release(100)
    found = {}
    for _ in range(10):
        reply = client.simple_reply()
        found[reply.cookie] = client.receive(4096)
    data = pattern(1 * MiB)
    expected = {100 + n: data[n * 4096 : (n + 1) * 4096] for n in range(8)}
    expected |= {cookie: data[n * 4096 : (n + 1) * 4096] for n, cookie in enumerate(cookies)}
    assert found == expected


def test_what_is_cached_overtakes_what_waits(waiting):
    node, client = waiting
    node.cached.add(8192)
    client.send(
        b"".join(
            wire.pack_request(wire.Request(0, Command.READ, n, n * 4096, 4096)) for n in range(3)
        )
    )
    data = pattern(1 * MiB)
    assert client.simple_reply() == wire.SimpleReply(0, 2)
    assert client.receive(4096) == data[8192:12288]
    node.let.release(2)
    found = {}
    for _ in range(2):
        reply = client.simple_reply()
        found[reply.cookie] = client.receive(4096)
    assert found == {0: data[:4096], 1: data[4096:8192]}


def test_a_lone_request_is_served_without_another_thread(waiting):
    node, client = waiting
    node.let.release(50)
    for _ in range(50):
        client.read(0, 512)
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith("nbd-client-1-")]


class PrefetchingNode(WaitingNode):
    """Begins to read when asked to; what has been waited for once is cached."""

    def __init__(self, size):
        super().__init__(size)
        self.prefetched = []
        self.bad = set()

    def prefetch(self, offset, length):
        self.prefetched.append(offset)
        return True

    def try_read_into(self, offset, buffer):
        if offset in self.bad and self.cached:
            raise BlockIOError("read", offset, len(buffer), errno.EIO)
        return super().try_read_into(offset, buffer)

    def read_into(self, offset, buffer):
        super().read_into(offset, buffer)
        self.cached.update(self.prefetched)


def test_waiting_reads_are_begun_together_and_answered_by_one_thread():
    node = PrefetchingNode(1 * MiB)
    node.write(0, pattern(1 * MiB))
    with serving(node) as server, RawClient(server) as client:
        client.go()
        client.send(
            b"".join(
                wire.pack_request(wire.Request(0, Command.READ, n, n * 4096, 4096))
                for n in range(10)
            )
        )
        assert node.begun.acquire(timeout=PATIENCE_S)
        wait_until(lambda: node.prefetched == [n * 4096 for n in range(10)])
        node.bad.add(5 * 4096)
        node.let.release()  # the only one that anybody waits for
        data = pattern(1 * MiB)
        for n in range(10):
            assert client.simple_reply() == wire.SimpleReply(5 if n == 5 else 0, n)
            if n != 5:
                assert client.receive(4096) == data[n * 4096 : (n + 1) * 4096]


def test_large_reads_and_writes_among_reads_that_wait():
    node = PrefetchingNode(4 * MiB)
    node.write(0, pattern(4 * MiB))
    node.open = True
    with serving(node) as server, RawClient(server) as client:
        client.go()
        payload = pattern(300_000, 5)
        message = (
            wire.pack_request(wire.Request(0, Command.READ, 1, 4096, 1 * MiB))
            + wire.pack_request(wire.Request(0, Command.READ, 2, 0, 512))
            + wire.pack_request(wire.Request(0, Command.WRITE, 3, 3 * MiB, len(payload)))
            + payload
            + wire.pack_request(wire.Request(0, Command.READ, 4, 512, 512))
        )
        sender = threading.Thread(target=client.send, args=(message,))
        sender.start()
        lengths = {1: 1 * MiB, 2: 512, 3: 0, 4: 512}
        found = {}
        for _ in lengths:
            cookie = client.simple_reply().cookie
            found[cookie] = client.receive(lengths[cookie])
        sender.join()
        data = pattern(4 * MiB)
        assert found == {
            1: data[4096 : 4096 + MiB],
            2: data[:512],
            3: b"",
            4: data[512:1024],
        }
        assert client.read(3 * MiB, 300_000) == payload


def test_goodbye_waits_for_reads_that_were_put_off():
    node = PrefetchingNode(1 * MiB)
    with serving(node) as server, RawClient(server) as client:
        client.go()
        client.send(
            wire.pack_request(wire.Request(0, Command.READ, 1, 0, 512))
            + wire.pack_request(wire.Request(0, Command.READ, 2, 512, 512))
            + wire.pack_request(wire.Request(0, Command.DISC, 3, 0, 0))
        )
        node.let.release(2)
        for cookie in (1, 2):
            assert client.simple_reply() == wire.SimpleReply(0, cookie)
            client.receive(512)
        assert client.is_closed_by_server()


def test_a_flush_does_not_hold_up_writes_behind_it(waiting):
    node, client = waiting
    client.send(
        wire.pack_request(wire.Request(0, Command.FLUSH, 1, 0, 0))
        + wire.pack_request(wire.Request(0, Command.WRITE, 2, 0, 4))
        + b"abcd"
    )
    assert client.simple_reply() == wire.SimpleReply(0, 2)
    node.let.release()
    assert client.simple_reply() == wire.SimpleReply(0, 1)


def test_a_client_that_waits_for_one_reply_of_many_does_not_stop_the_others(waiting):
    """More requests than may be handed over: the rest waits in the socket and comes later."""
    node, client = waiting
    count = 200
    client.send(
        b"".join(
            wire.pack_request(wire.Request(0, Command.READ, n, n * 512, 512)) for n in range(count)
        )
    )
    node.open = True
    node.let.release(100)
    data = pattern(1 * MiB)
    seen = set()
    for _ in range(count):
        n = client.simple_reply().cookie
        assert client.receive(512) == data[n * 512 : (n + 1) * 512]
        seen.add(n)
    assert seen == set(range(count))


def test_writes_that_wait_keep_their_payloads():
    class Slow(MemoryNode):
        writes_wait = True
        reads_wait = True

        def write(self, offset, data):
            assert gate.wait(PATIENCE_S)
            super().write(offset, data)

    gate = threading.Event()
    with serving(Slow(4 * MiB)) as server, RawClient(server) as client:
        client.go()
        lengths = [4096] * 16 + [100_000] * 4
        payloads = [pattern(length, n) for n, length in enumerate(lengths)]
        message, offset, places = b"", 0, []
        for n, payload in enumerate(payloads):
            message += wire.pack_request(wire.Request(0, Command.WRITE, n, offset, len(payload)))
            message += payload
            places.append(offset)
            offset += len(payload)
        sender = threading.Thread(target=client.send, args=(message,))
        sender.start()
        gate.set()
        assert {client.simple_reply().cookie for _ in lengths} == set(range(20))
        sender.join()
        for place, payload in zip(places, payloads, strict=True):
            assert client.read(place, len(payload)) == payload


def test_a_defect_in_a_node_ends_the_connection_and_nothing_else(caplog, monkeypatch):
    class Broken(WaitingNode):
        def read_into(self, offset, buffer):
            raise ZeroDivisionError("a defect")

    seen = []
    monkeypatch.setattr(threading, "excepthook", lambda args: seen.append(args.exc_type))
    with serving(Broken(1 * MiB)) as server:
        with RawClient(server) as client:
            client.go()
            client.send(
                b"".join(
                    wire.pack_request(wire.Request(0, Command.READ, n, 0, 512)) for n in range(2)
                )
            )
            assert client.is_closed_by_server()
        with RawClient(server) as client:
            client.go()
            client.write(0, b"abcd")
    assert set(seen) == {ZeroDivisionError}
