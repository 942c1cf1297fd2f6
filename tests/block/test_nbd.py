"""The NBD node: against our own server, against servers that misbehave, and against real ones."""

import errno
import socket
import threading
import time
from contextlib import contextmanager, suppress

import pytest

from mirrorgui.block.memory import MemoryNode
from mirrorgui.block.nbd import NbdNode
from mirrorgui.block.node import Extent, ExtentKind
from mirrorgui.errors import BlockIOError, ImageRefused, InvalidInput, RequestCancelled
from mirrorgui.nbd import handshake, wire
from mirrorgui.nbd.client_handshake import list_exports
from mirrorgui.nbd.constants import (
    ChunkFlag,
    ChunkType,
    Command,
    Option,
    Reply,
    TransmissionFlag,
)
from mirrorgui.nbd.export import Export
from mirrorgui.nbd.uri import NbdAddress
from mirrorgui.units import GiB, KiB, MiB
from tests.nbd.support import (
    PATIENCE_S,
    pattern,
    peer,
    serving,
    short_directory,
    wait_until,
)

DATA, ZERO = ExtentKind.DATA, ExtentKind.ZERO
FLAGS = (
    TransmissionFlag.HAS_FLAGS
    | TransmissionFlag.SEND_FLUSH
    | TransmissionFlag.SEND_TRIM
    | TransmissionFlag.SEND_WRITE_ZEROES
)
QUICK = {"reconnect_s": 0.0, "connect_timeout_s": 5.0}


@contextmanager
def opened(address, **options):
    node = NbdNode(address, **options)
    try:
        yield node
    finally:
        node.close()


def read(node, offset, length):
    data = bytearray(length)
    node.read_into(offset, data)
    return bytes(data)


def in_threads(work, count):
    """Run ``work(number)`` in several threads; return what each returned or raised."""
    results = [None] * count

    def guarded(number):
        try:
            results[number] = work(number)
        except BlockIOError as error:
            results[number] = error

    threads = [threading.Thread(target=guarded, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    return threads, results


def joined(threads):
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


# Against our own server


@pytest.fixture
def image():
    return MemoryNode(4 * MiB)


@pytest.fixture
def served(image):
    with serving(image) as server:
        yield server


@pytest.fixture
def node(served):
    with opened(served.uri("disk")) as node:
        yield node


def test_what_the_server_tells_becomes_size_and_limits(node):
    assert node.size == 4 * MiB
    assert node.driver == "nbd"
    assert node.name.startswith("nbd+unix:///disk?socket=")
    assert node.limits.can_zero
    assert node.limits.can_discard
    assert node.limits.max_transfer == 32 * MiB
    assert node.limits.request_alignment == 1
    assert node.limits.latency_bound


def test_every_request_arrives(node, image):
    data = pattern(100_000)
    node.write(5, data)
    assert read(node, 5, 100_000) == data
    assert read(image, 5, 100_000) == data
    node.write_zeroes(1000, 1000)
    assert read(image, 5, 100_000) == data[:995] + bytes(1000) + data[1995:]
    node.write_zeroes(64 * KiB, 64 * KiB, may_unmap=False)
    assert read(node, 64 * KiB, 64 * KiB) == bytes(64 * KiB)
    node.discard(0, 64 * KiB)
    node.flush()
    node.write(0, b"")
    node.read_into(0, bytearray())


def test_extents_are_what_the_server_says(node, image):
    image.write(1 * MiB, b"x" * MiB)
    image.write_zeroes(3 * MiB, 64 * KiB)
    assert node.extents(0, 4 * MiB) == [
        Extent(0, 1 * MiB, ZERO),
        Extent(1 * MiB, 1 * MiB, DATA),
        Extent(2 * MiB, 2 * MiB, ZERO),
    ]
    assert node.extents(1 * MiB - 10, 30) == [
        Extent(1 * MiB - 10, 10, ZERO),
        Extent(1 * MiB, 20, DATA),
    ]
    assert node.extents(5, 0) == []


def test_extents_are_asked_for_until_they_cover_the_range():
    image = MemoryNode(128 * MiB)
    for offset in range(0, 128 * MiB, 128 * KiB):
        image.write(offset, b"x")
    with serving(image) as server, opened(server.uri("disk")) as node:
        runs = node.extents(0, 128 * MiB)
        assert len(runs) == 2048
        assert sum(run.length for run in runs) == 128 * MiB
        assert [run.kind for run in runs[:4]] == [DATA, ZERO, DATA, ZERO]


def test_requests_larger_than_the_servers_limit_are_split():
    with serving(80 * MiB) as server, opened(server.uri("disk")) as node:
        data = pattern(70 * MiB)
        node.write(3, data)
        assert read(node, 3, 70 * MiB) == data
        node.write_zeroes(0, 80 * MiB)
        assert node.extents(0, 80 * MiB) == [Extent(0, 80 * MiB, ZERO)]


@pytest.mark.parametrize("method", ["read", "write", "write_zeroes", "discard", "extents"])
def test_requests_outside_are_refused_here(node, method):
    call = {
        "read": lambda: read(node, 4 * MiB - 1, 2),
        "write": lambda: node.write(4 * MiB - 1, b"ab"),
    }.get(method, lambda: getattr(node, method)(4 * MiB - 1, 2))
    with pytest.raises(BlockIOError) as failed:
        call()
    assert (failed.value.operation, failed.value.errno) == (method, errno.EINVAL)


def test_many_threads_share_several_connections(served, node):
    def work(number):
        for turn in range(40):
            offset = (number * 40 + turn) * 4096
            node.write(offset, pattern(4096, offset))
            assert read(node, offset, 4096) == pattern(4096, offset)
        return "done"

    threads, results = in_threads(work, 16)
    joined(threads)
    assert results == ["done"] * 16
    assert 1 <= node.connections <= 4
    assert len(served.connections()) == node.connections


def test_a_read_only_export_can_be_read_and_not_opened_for_writing():
    with serving(0) as server:
        server.add_export(Export("ro", MemoryNode(pattern(8192)), read_only=True))
        with pytest.raises(ImageRefused, match="the export is read-only"):
            NbdNode(server.uri("ro"))
        with opened(server.uri("ro"), read_only=True) as node:
            assert read(node, 0, 8192) == pattern(8192)
            node.flush()
            for change in (
                lambda: node.write(0, b"a"),
                lambda: node.write_zeroes(0, 1),
                lambda: node.discard(0, 1),
            ):
                with pytest.raises(BlockIOError) as failed:
                    change()
                assert failed.value.errno == errno.EPERM


def test_an_empty_export():
    with serving(0) as server, opened(server.uri("disk")) as node:
        assert node.size == 0
        assert node.extents(0, 0) == []
        node.read_into(0, bytearray())
        node.flush()


def test_close_says_goodbye_and_can_be_repeated(served):
    node = NbdNode(served.uri("disk"))
    node.write(0, b"abcd")
    node.close()
    node.close()
    wait_until(lambda: not served.connections())


def test_exports_can_be_listed(served):
    served.add_export(Export("second", MemoryNode(512), description="another one"))
    assert list_exports(served.address) == [("disk", ""), ("second", "another one")]


# Refusals


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("nbd+unix:///disk?socket=/nowhere", "cannot connect: No such file"),
        ("nbd://127.0.0.1:1/disk", "cannot connect: Connection refused"),
    ],
)
def test_an_unreachable_server_is_refused_with_its_reason(address, reason):
    with pytest.raises(ImageRefused, match=reason) as refusal:
        NbdNode(address, field="target")
    assert refusal.value.field == "target"


def test_an_unknown_export_is_refused(served):
    with pytest.raises(ImageRefused, match="no such export: export 'other' not present"):
        NbdNode(served.uri("other"))


def test_what_is_no_uri_is_refused():
    with pytest.raises(InvalidInput, match="scheme"):
        NbdNode("/a/path")


# Servers that misbehave


class FakePeer:
    """The server's end of a connection, for scripts."""

    def __init__(self, sock):
        self.sock = sock

    def receive(self, length):
        data = b""
        while len(data) < length:
            more = self.sock.recv(length - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def send(self, data):
        self.sock.sendall(data)

    def negotiate(self, *, size=1 * MiB, flags=FLAGS, structured=True, block_sizes=None):
        """Go through the handshake as a good server does."""
        self.send(handshake.pack_greeting(3))
        self.receive(4)
        while True:
            header = handshake.parse_option_header(self.receive(16))
            self.receive(header.length)
            replies = []
            reply = Reply.ACK
            if header.option == Option.STRUCTURED_REPLY and not structured:
                reply = Reply.ERR_UNSUP
            elif header.option == Option.SET_META_CONTEXT:
                replies = [(Reply.META_CONTEXT, handshake.pack_meta_context(7, "base:allocation"))]
            elif header.option == Option.GO:
                replies = [(Reply.INFO, handshake.pack_info_export(size, flags))]
                if block_sizes is not None:
                    replies.append((Reply.INFO, handshake.pack_info_block_size(block_sizes)))
            for kind, data in (*replies, (reply, b"")):
                self.send(handshake.pack_option_reply(header.option, kind, data))
            if header.option == Option.GO:
                return

    def request(self):
        request = wire.parse_request(self.receive(28))
        if request.command == Command.WRITE:
            self.receive(request.length)
        return request


@contextmanager
def fake_server(*scripts):
    """Serve one connection after the other, each with the next script; the last one repeats."""
    with short_directory() as directory, socket.socket(socket.AF_UNIX) as listening:
        path = directory / "s"
        listening.bind(str(path))
        listening.listen(16)
        stopping = threading.Event()

        def serve():
            count = 0
            while not stopping.is_set():
                sock, _ = listening.accept()
                with sock, suppress(EOFError, OSError):
                    scripts[min(count, len(scripts) - 1)](FakePeer(sock))
                count += 1

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield NbdAddress(socket_path=str(path), export="disk")
        finally:
            stopping.set()
            with socket.socket(socket.AF_UNIX) as last:
                last.connect(str(path))
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


def negotiate_and(reply):
    """Make a script that answers the first request with bytes, and waits for the hang-up."""

    def script(peer):
        peer.negotiate()
        request = peer.request()
        peer.send(reply(request))
        peer.receive(1)

    return script


def chunk(request, kind, payload, flags=ChunkFlag.DONE):
    return wire.pack_chunk(flags, kind, request.cookie, payload)


def at(offset, data):
    return offset.to_bytes(8, "big") + data


@pytest.mark.parametrize(
    "reply",
    [
        lambda r: b"garbage that is no reply at all.",
        lambda r: wire.pack_simple_reply(0, r.cookie + 1),
        lambda r: wire.pack_simple_reply(0, r.cookie) + bytes(512),
        lambda r: chunk(r, ChunkType.OFFSET_DATA, at(0, bytes(511))),
        lambda r: chunk(r, ChunkType.OFFSET_DATA, at(0, bytes(513))),
        lambda r: chunk(r, ChunkType.OFFSET_DATA, at(1, bytes(512))),
        lambda r: chunk(r, ChunkType.OFFSET_DATA, at(2**64 - 1, bytes(512))),
        lambda r: chunk(r, ChunkType.OFFSET_DATA, b"\0" * 8),
        lambda r: chunk(r, ChunkType.OFFSET_HOLE, wire.pack_hole(0, 2**32 - 1)),
        lambda r: chunk(r, ChunkType.OFFSET_HOLE, b"\0" * 11),
        lambda r: chunk(r, ChunkType.NONE, b""),
        lambda r: chunk(r, ChunkType.NONE, b"x"),
        lambda r: chunk(r, ChunkType.NONE, b"", flags=0),
        lambda r: chunk(r, ChunkType.BLOCK_STATUS, wire.pack_block_status(7, [(512, 0)])),
        lambda r: chunk(r, 77, b""),
        lambda r: chunk(r, ChunkType.ERROR, b"\0\0\0\5\xff\xff"),
        lambda r: wire.CHUNK.pack(wire.CHUNK_MAGIC, 1, ChunkType.ERROR, r.cookie, 2**32 - 1),
    ],
)
def test_replies_against_the_protocol_end_the_connection_and_not_the_program(reply):
    with fake_server(negotiate_and(reply)) as address, opened(address, **QUICK) as node:
        with pytest.raises(BlockIOError) as failed:
            read(node, 0, 512)
        assert (failed.value.operation, failed.value.errno) == ("read", errno.ENOTCONN)


def test_chunks_in_any_order_with_holes_make_up_a_read():
    def script(peer):
        peer.negotiate()
        request = peer.request()
        peer.send(
            chunk(request, ChunkType.OFFSET_DATA, at(3072, b"d" * 1024), flags=0)
            + chunk(request, ChunkType.OFFSET_HOLE, wire.pack_hole(1024, 2048), flags=0)
            + chunk(request, ChunkType.OFFSET_DATA, at(0, b"a" * 1024), flags=0)
            + chunk(request, ChunkType.NONE, b"")
        )
        peer.receive(1)

    with fake_server(script) as address, opened(address, **QUICK) as node:
        data = bytearray(b"?" * 4096)
        node.read_into(0, data)
        assert data == b"a" * 1024 + bytes(2048) + b"d" * 1024


def test_an_allocation_in_very_many_runs_is_taken():
    runs = [(512, n % 2 * 3) for n in range(2048)]

    def script(peer):
        peer.negotiate()
        request = peer.request()
        assert request.command == Command.BLOCK_STATUS
        payload = wire.pack_block_status(7, runs)
        assert len(payload) > 16 * KiB  # more than is received at once
        peer.send(chunk(request, ChunkType.BLOCK_STATUS, payload))
        peer.receive(1)

    with fake_server(script) as address, opened(address, **QUICK) as node:
        found = node.extents(0, 1 * MiB)
        assert len(found) == 2048
        assert [run.kind for run in found[:3]] == [DATA, ZERO, DATA]


@pytest.mark.parametrize("structured", [False, True])
@pytest.mark.parametrize(
    ("code", "number"),
    [(5, errno.EIO), (28, errno.ENOSPC), (1, errno.EPERM), (4711, errno.EINVAL)],
)
def test_errors_of_the_server_are_errors_of_the_request(structured, code, number):
    def script(peer):
        peer.negotiate(structured=structured)
        request = peer.request()
        if structured:
            error = wire.pack_error(wire.ErrorChunk(code, "no", 4))
            peer.send(chunk(request, ChunkType.ERROR_OFFSET, error))
        else:
            peer.send(wire.pack_simple_reply(code, request.cookie))
        request = peer.request()
        peer.send(wire.pack_simple_reply(0, request.cookie))
        peer.receive(1)

    with fake_server(script) as address, opened(address, **QUICK) as node:
        with pytest.raises(BlockIOError) as failed:
            read(node, 0, 512)
        assert failed.value.errno == number
        node.write(0, b"abcd")  # the connection goes on


def test_an_unknown_error_chunk_fails_its_request_only():
    def script(peer):
        peer.negotiate()
        request = peer.request()
        error = wire.pack_error(wire.ErrorChunk(5, "new kind")) + b"more"
        peer.send(chunk(request, 0x8123, error, flags=0) + chunk(request, ChunkType.NONE, b""))
        request = peer.request()
        peer.send(wire.pack_simple_reply(0, request.cookie))
        peer.receive(1)

    with fake_server(script) as address, opened(address, **QUICK) as node:
        with pytest.raises(BlockIOError) as failed:
            read(node, 0, 512)
        assert failed.value.errno == errno.EIO
        node.write(0, b"abcd")


def silent(peer):
    peer.negotiate()
    while True:
        peer.receive(1)


def obedient(peer):
    """Answer everything with success and zeroes, in simple replies."""
    peer.negotiate(structured=False)
    while True:
        request = peer.request()
        if request.command == Command.DISC:
            return
        peer.send(wire.pack_simple_reply(0, request.cookie))
        if request.command == Command.READ:
            peer.send(bytes(request.length))


def vanishing(peer):
    peer.negotiate()
    peer.request()


def test_replies_out_of_order_find_their_requests():
    def script(peer):
        peer.negotiate()
        requests = [peer.request() for _ in range(8)]
        for request in reversed(requests):
            data = pattern(512, request.offset)
            peer.send(chunk(request, ChunkType.OFFSET_DATA, at(request.offset, data)))
        peer.receive(1)

    with fake_server(script) as address, opened(address, connections=1, **QUICK) as node:
        threads, results = in_threads(lambda n: read(node, n * 512, 512), 8)
        joined(threads)
        assert results == [pattern(512, n * 512) for n in range(8)]


def test_requests_are_repeated_on_a_new_connection():
    with fake_server(vanishing, vanishing, obedient) as address, opened(address) as node:
        data = bytearray(b"?" * 512)
        node.read_into(0, data)
        assert data == bytes(512)
        node.write(0, b"abcd")
        node.flush()


def test_a_request_that_ends_every_connection_is_given_up():
    with fake_server(vanishing) as address, opened(address, reconnect_s=60) as node:
        with pytest.raises(BlockIOError) as failed:
            node.write(0, b"abcd")
        assert failed.value.errno == errno.ENOTCONN


def test_a_server_that_shuts_down_is_left_and_found_again():
    def leaving(peer):
        peer.negotiate()
        request = peer.request()
        peer.send(wire.pack_simple_reply(108, request.cookie))
        peer.receive(1)

    with fake_server(leaving, obedient) as address, opened(address) as node:
        node.write(0, b"abcd")


def test_a_lost_server_is_an_error_after_the_limit_and_fails_fast_from_then_on():
    with serving(1 * MiB) as server, opened(server.uri("disk"), reconnect_s=0.3) as node:
        node.write(0, b"abcd")
        server.stop()
        started = time.monotonic()
        with pytest.raises(BlockIOError) as failed:
            node.write(0, b"abcd")
        assert failed.value.errno == errno.ENOTCONN
        assert 0.25 <= time.monotonic() - started < 5
        started = time.monotonic()
        with pytest.raises(BlockIOError):
            node.flush()
        assert time.monotonic() - started < 0.25
        server.start()
        assert read(node, 0, 4) == b"abcd"


def test_a_server_that_comes_back_in_time_is_not_noticed():
    with serving(1 * MiB) as server, opened(server.uri("disk"), reconnect_s=30) as node:
        node.write(0, b"abcd")
        server.stop()
        threads, results = in_threads(lambda n: read(node, 0, 4), 8)
        wait_until(lambda: node._links._opener is not None)
        server.start()
        joined(threads)
        assert results == [b"abcd"] * 8


def test_an_export_that_has_changed_its_size_is_not_used_again():
    def small(peer):
        peer.negotiate(size=512)
        peer.receive(1)

    with fake_server(vanishing, small) as address, opened(address, **QUICK) as node:
        with pytest.raises(BlockIOError) as failed:
            read(node, 0, 512)
        assert "size has changed from 1048576 to 512" in str(failed.value.__cause__)


def test_a_server_that_does_not_answer_is_lost_after_the_reply_timeout():
    with fake_server(silent) as address, opened(address, reply_timeout_s=0.1, **QUICK) as node:
        with pytest.raises(BlockIOError) as failed:
            read(node, 0, 512)
        assert failed.value.errno == errno.ENOTCONN
        assert "does not answer" in str(failed.value.__cause__)


def test_cancelling_ends_hung_requests_at_once_and_spares_later_ones():
    with fake_server(silent, obedient) as address, opened(address, reconnect_s=60) as node:
        threads, results = in_threads(lambda n: node.write(n * 512, b"abcd"), 6)
        wait_until(lambda: sum(node._links._users.values()) == 6)
        started = time.monotonic()
        node.cancel_in_flight()
        joined(threads)
        assert time.monotonic() - started < 2
        assert [type(result) for result in results] == [RequestCancelled] * 6
        node.write(0, b"abcd")


def test_cancelling_ends_the_wait_for_a_lost_server():
    with serving(1 * MiB) as server, opened(server.uri("disk"), reconnect_s=60) as node:
        server.stop()
        threads, results = in_threads(lambda n: read(node, 0, 512), 3)
        wait_until(lambda: node._links._opener is not None)
        node.cancel_in_flight()
        joined(threads)
        assert [type(result) for result in results] == [RequestCancelled] * 3


def test_cancelling_when_nothing_is_under_way_changes_nothing(node):
    node.cancel_in_flight()
    node.write(0, b"abcd")
    assert read(node, 0, 4) == b"abcd"


def test_closing_while_it_waits_for_the_server_does_not_hang():
    with serving(1 * MiB) as server:
        node = NbdNode(server.uri("disk"), reconnect_s=60)
        server.stop()
        threads, _ = in_threads(lambda n: read(node, 0, 512), 1)
        wait_until(lambda: node._links._opener is not None)
        node.cancel_in_flight()
        joined(threads)
        started = time.monotonic()
        node.close()
        assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (lambda p: p.send(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "not an NBD server"),
        (lambda p: p.send(b"NBDMAGIC\0\0\x42\x02\x81\x86\x12\x53" + bytes(136)), "oldstyle"),
        (lambda p: p.send(b"NBDMAGIC"), "closed the connection"),
        (lambda p: None, "closed the connection"),
        (lambda p: p.receive(1), "does not answer in time"),
        (lambda p: p.negotiate(size=2**64 - 1), "size 18446744073709551615 is too large"),
        (
            lambda p: p.negotiate(size=1000, block_sizes=handshake.BlockSizes(512, 4096, 65536)),
            "no multiple of its block size 512",
        ),
        (
            lambda p: p.negotiate(block_sizes=handshake.BlockSizes(3, 4096, 65536)),
            "minimum block size is 3",
        ),
        (lambda p: p.negotiate(flags=FLAGS | TransmissionFlag.READ_ONLY), "read-only"),
    ],
)
def test_servers_that_cannot_be_used_are_refused_with_the_reason(script, reason):
    with fake_server(script) as address, pytest.raises(ImageRefused, match=reason):
        NbdNode(address, connect_timeout_s=0.3)


def test_an_option_reply_that_does_not_end_is_refused():
    def endless(peer):
        peer.send(handshake.pack_greeting(3))
        peer.receive(4)
        header = handshake.parse_option_header(peer.receive(16))
        peer.send(handshake.OPTION_REPLY_HEADER.pack(0x3E889045565A9, header.option, 1, 2**32 - 1))
        peer.receive(1)

    with fake_server(endless) as address, pytest.raises(ImageRefused, match="4294967295 bytes"):
        NbdNode(address, **QUICK)


def test_without_write_zeroes_and_trim_zeroes_are_written_and_nothing_is_discarded():
    seen = []

    def script(peer):
        peer.negotiate(structured=False, flags=TransmissionFlag.HAS_FLAGS)
        while True:
            request = peer.request()
            if request.command == Command.DISC:
                return
            seen.append((request.command, request.offset, request.length))
            peer.send(wire.pack_simple_reply(0, request.cookie))

    with fake_server(script) as address, opened(address) as node:
        assert not node.limits.can_zero
        assert not node.limits.can_discard
        node.write_zeroes(100, 1000)
        node.discard(0, 4096)
        node.flush()
        assert node.extents(0, 4096) == [Extent(0, 4096, DATA)]
    assert seen == [(Command.WRITE, 100, 1000)]


# Real servers


@contextmanager
def nbdkit(*arguments, socket_path=None, before=()):
    with short_directory() as directory:
        path = socket_path or directory / "s"
        with peer("nbdkit", "-f", "-U", path, *before, *arguments, socket_path=path):
            yield NbdAddress(socket_path=str(path))


@pytest.mark.parametrize(
    "before",
    [(), ("--no-sr",), ("--mask-handshake=0",), ("--mask-handshake=1",)],
    ids=["modern", "simple replies", "newstyle", "fixed newstyle"],
)
def test_every_kind_of_handshake(before):
    with nbdkit("memory", "4M", before=before) as address, opened(address) as node:
        node.write(12345, pattern(200_000))
        assert read(node, 12345, 200_000) == pattern(200_000)
        if before in ((), ("--mask-handshake=1",)):
            assert node.extents(0, 4 * MiB)[-1].kind is ZERO
        else:
            assert node.extents(0, 4 * MiB) == [Extent(0, 4 * MiB, DATA)]


def test_oldstyle_is_refused():
    with (
        nbdkit("memory", "4M", before=("-o",)) as address,
        pytest.raises(ImageRefused, match="oldstyle"),
    ):
        NbdNode(address)


@pytest.mark.parametrize("minimum", [512, 4096])
def test_unaligned_requests_are_made_from_aligned_ones(minimum):
    policy = (
        "--filter=blocksize-policy",
        *("memory", "1M", "blocksize-error-policy=error"),
        *(f"blocksize-minimum={minimum}", "blocksize-preferred=4096", "blocksize-maximum=64K"),
    )
    with nbdkit(*policy) as address, opened(address) as node:
        assert node.limits.request_alignment == minimum
        assert node.limits.max_transfer == 64 * KiB
        expected = bytearray(pattern(1 * MiB))
        node.write(0, expected)
        for offset, length in ((1, 1), (500, 30), (4095, 2), (70_001, 200_000), (1048575, 1)):
            data = pattern(length, offset)
            node.write(offset, data)
            expected[offset : offset + length] = data
            assert read(node, offset, length) == data
        node.write_zeroes(100_001, 50_000)
        expected[100_001:150_001] = bytes(50_000)
        node.discard(600_001, 100)  # less than a block
        assert read(node, 0, 1 * MiB) == expected
        assert sum(run.length for run in node.extents(3, 1000)) == 1000


def test_neighbours_of_unaligned_writes_are_not_undone():
    policy = ("--filter=blocksize-policy", "memory", "64K", "blocksize-error-policy=error")
    sizes = ("blocksize-minimum=4096", "blocksize-preferred=4096")
    with nbdkit(*policy, *sizes) as address, opened(address) as node:

        def work(number):
            for turn in range(50):
                node.write(number * 100, bytes([number + 1, turn]) * 50)

        threads, _ = in_threads(work, 8)
        joined(threads)
        for number in range(8):
            assert read(node, number * 100, 100) == bytes([number + 1, 49]) * 50


def test_sparse_files_show_their_holes(tmp_path):
    path = tmp_path / "image"
    with path.open("wb") as stream:
        stream.truncate(8 * GiB)
        stream.seek(5 * GiB)
        stream.write(b"x" * MiB)
    with nbdkit("file", path) as address, opened(address, read_only=True) as node:
        assert node.size == 8 * GiB
        assert node.extents(0, 8 * GiB) == [
            Extent(0, 5 * GiB, ZERO),
            Extent(5 * GiB, 1 * MiB, DATA),
            Extent(5 * GiB + MiB, 3 * GiB - MiB, ZERO),
        ]
        assert node.extents(5 * GiB + 4096, 4096) == [Extent(5 * GiB + 4096, 4096, DATA)]


def test_without_extents_everything_is_data():
    with nbdkit("--filter=noextents", "memory", "1M") as address, opened(address) as node:
        assert node.extents(0, 1 * MiB) == [Extent(0, 1 * MiB, DATA)]


def test_without_zeroing_in_the_server_it_is_written():
    with nbdkit("--filter=nozero", "memory", "4M") as address, opened(address) as node:
        assert not node.limits.can_zero
        node.write(0, pattern(4 * MiB))
        node.write_zeroes(5, 3 * MiB)
        expected = pattern(4 * MiB)
        assert read(node, 0, 4 * MiB) == expected[:5] + bytes(3 * MiB) + expected[3 * MiB + 5 :]


@pytest.mark.parametrize(
    ("name", "number"), [("EIO", errno.EIO), ("ENOSPC", errno.ENOSPC), ("EPERM", errno.EPERM)]
)
def test_injected_errors_arrive_as_they_are(name, number):
    error = ("--filter=error", "memory", "1M", f"error={name}", "error-rate=100%")
    with nbdkit(*error) as address, opened(address) as node:
        for operation, call in (
            ("read", lambda: read(node, 0, 512)),
            ("write", lambda: node.write(0, b"abcd")),
            ("write_zeroes", lambda: node.write_zeroes(0, 512)),
            ("discard", lambda: node.discard(0, 512)),
        ):
            with pytest.raises(BlockIOError) as failed:
                call()
            assert (failed.value.operation, failed.value.errno) == (operation, number)


def test_requests_wait_for_a_slow_server_side_by_side():
    slow = ("--filter=delay", "memory", "1M", "rdelay=200ms", "delay-open=0")
    with nbdkit(*slow) as address, opened(address) as node:
        started = time.monotonic()
        threads, results = in_threads(lambda n: read(node, n * 512, 512), 16)
        joined(threads)
        assert results == [bytes(512)] * 16
        assert time.monotonic() - started < 1.6  # 3.2 s one after the other


def test_cancelling_a_request_that_a_real_server_delays():
    with (
        nbdkit("--filter=delay", "memory", "1M", "wdelay=60") as address,
        opened(address, reconnect_s=30) as node,
    ):
        threads, results = in_threads(lambda n: node.write(0, b"abcd"), 2)
        wait_until(lambda: sum(node._links._users.values()) == 2)
        started = time.monotonic()
        node.cancel_in_flight()
        joined(threads)
        assert time.monotonic() - started < 2
        assert [type(result) for result in results] == [RequestCancelled] * 2
        assert read(node, 0, 512) == bytes(512)


def test_a_server_that_takes_one_connection_only_gets_one():
    limited = ("--filter=limit", "memory", "4M", "limit=1")
    with nbdkit(*limited) as address, opened(address, reconnect_s=1) as node:

        def work(number):
            for turn in range(20):
                offset = (number * 20 + turn) * 4096
                node.write(offset, pattern(4096, offset))
                assert read(node, offset, 4096) == pattern(4096, offset)
            return "done"

        threads, results = in_threads(work, 8)
        joined(threads)
        assert results == ["done"] * 8
        assert node.connections == 1


def test_a_killed_server_that_is_started_again_is_not_noticed(tmp_path):
    image = tmp_path / "image"
    image.write_bytes(bytes(4 * MiB))
    with short_directory() as directory:
        path = directory / "s"
        command = ("nbdkit", "-f", "-U", path, "file", image)
        with peer(*command, socket_path=path) as first:
            node = NbdNode(NbdAddress(socket_path=str(path)), reconnect_s=30)
            node.write(0, pattern(1 * MiB))
            first.kill()
            first.wait()
        threads, results = in_threads(lambda n: node.write(n * MiB, pattern(1 * MiB, n)), 4)
        wait_until(lambda: node._links._opener is not None)
        path.unlink()
        with peer(*command, socket_path=path):
            joined(threads)
            assert results == [None] * 4
            node.flush()
            for number in range(4):
                assert read(node, number * MiB, MiB) == pattern(1 * MiB, number)
            node.close()


@pytest.mark.parametrize("several", [False, True])
def test_qemu_nbd_with_one_client_or_several(tmp_path, several):
    image = tmp_path / "image"
    image.write_bytes(pattern(4 * MiB))
    with short_directory() as directory:
        path = directory / "s"
        shared = ("-e", "8") if several else ()
        command = ("qemu-nbd", "-f", "raw", "-k", path, "-x", "disk", "-t", *shared, image)
        with peer(*command, socket_path=path):
            address = NbdAddress(socket_path=str(path), export="disk")
            with opened(address) as node:
                threads, results = in_threads(lambda n: read(node, n * 4096, 4096), 16)
                joined(threads)
                assert results == [pattern(4 * MiB)[n * 4096 :][:4096] for n in range(16)]
                assert node.connections <= (4 if several else 1)
                node.write_zeroes(1 * MiB, 1 * MiB)
                node.discard(2 * MiB, 1 * MiB)
                node.flush()
                assert Extent(1 * MiB, 1 * MiB, ZERO) in node.extents(0, 2 * MiB)
            assert list_exports(address) == [("disk", "")]
