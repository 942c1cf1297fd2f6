"""What the NBD tests share: servers, a client that can be rude, and nodes that wait to be told."""

import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mirrorgui.block.memory import MemoryNode
from mirrorgui.block.node import BlockNode
from mirrorgui.nbd import handshake, wire
from mirrorgui.nbd.constants import ChunkType, Command, Option, Reply
from mirrorgui.nbd.export import Export
from mirrorgui.nbd.server import NbdServer
from mirrorgui.nbd.uri import NbdAddress
from mirrorgui.units import MiB

PATIENCE_S = 20.0
"""Longest wait for what must come; only a failing test waits so long."""


@contextmanager
def short_directory() -> Iterator[Path]:
    """A directory whose sockets' paths are short enough (107 bytes)."""
    with tempfile.TemporaryDirectory(prefix="nbd-") as path:
        yield Path(path)


@contextmanager
def serving(node: BlockNode | int = 1 * MiB, *exports: Export, **options) -> Iterator[NbdServer]:
    """Run a server on a Unix socket with the export ``disk``, and more if given."""
    if isinstance(node, int):
        node = MemoryNode(node)
    with short_directory() as directory:
        options.setdefault("address", NbdAddress(socket_path=str(directory / "s")))
        server = NbdServer(**options)
        server.add_export(Export("disk", node), default=True)
        for export in exports:
            server.add_export(export)
        server.start()
        try:
            yield server
        finally:
            assert server.stop(PATIENCE_S)


def wait_until(condition, what: str = "") -> None:
    """Wait for what another thread or process does and tells nobody."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what or "waited too long"
        time.sleep(0.002)


class RawClient:
    """A client that sends exactly what it is told to."""

    def __init__(self, server: NbdServer, *, flags: int | None = 3) -> None:
        address = server.address
        if address.is_unix:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.connect(address.socket_path)
            self.sock.settimeout(PATIENCE_S)
        else:
            self.sock = socket.create_connection((address.host, address.port), PATIENCE_S)
        self.cookie = 0
        if flags is not None:
            assert handshake.parse_greeting(self.receive(18)) == 3
            self.send(handshake.CLIENT_FLAGS.pack(flags))

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def receive(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            more = self.sock.recv(length - len(data))
            if not more:
                raise EOFError(f"closed after {len(data)} of {length} bytes")
            data += more
        return data

    def is_closed_by_server(self) -> bool:
        """Wait for the server to hang up; whatever it sends before is skipped."""
        try:
            while self.sock.recv(65536):
                pass
        except ConnectionResetError:
            pass
        return True

    def option(self, option: int, data: bytes = b"") -> list[tuple[int, bytes]]:
        """Send an option and collect its replies, the last one included."""
        self.send(handshake.pack_option(option, data))
        replies = []
        while True:
            head = self.receive(handshake.OPTION_REPLY_HEADER.size)
            header = handshake.parse_option_reply_header(head, option)
            replies.append((header.reply, self.receive(header.length)))
            if header.is_error or header.reply == Reply.ACK:
                return replies

    def go(
        self, export: str = "disk", *, structured: bool = False, contexts: Sequence[str] = ()
    ) -> list[tuple[int, bytes]]:
        """Negotiate to the transmission phase."""
        if structured or contexts:
            assert self.option(Option.STRUCTURED_REPLY) == [(Reply.ACK, b"")]
        if contexts:
            request = handshake.MetaRequest(export, tuple(contexts))
            self.option(Option.SET_META_CONTEXT, handshake.pack_meta_request(request))
        request = handshake.InfoRequest(export, (3,))
        return self.option(Option.GO, handshake.pack_info_request(request))

    def request(
        self, command: int, offset: int = 0, length: int = 0, *, flags: int = 0, data: bytes = b""
    ) -> int:
        """Send a request and return its cookie."""
        self.cookie += 1
        header = wire.Request(flags, command, self.cookie, offset, length or len(data))
        self.send(wire.pack_request(header) + data)
        return self.cookie

    def simple_reply(self) -> wire.SimpleReply:
        return wire.parse_simple_reply(self.receive(wire.SIMPLE_REPLY.size))

    def chunk(self) -> tuple[wire.Chunk, bytes]:
        chunk = wire.parse_chunk(self.receive(wire.CHUNK.size))
        return chunk, self.receive(chunk.length)

    def error_of(self, *arguments, **options) -> int:
        """Send a request and return the error of its reply, simple or structured; 0 for none."""
        cookie = self.request(*arguments, **options)
        head = self.receive(4)
        if head == wire.SIMPLE_REPLY_MAGIC.to_bytes(4, "big"):
            reply = wire.parse_simple_reply(head + self.receive(12))
            assert reply.cookie == cookie
            return reply.error
        chunk = wire.parse_chunk(head + self.receive(16))
        assert chunk.cookie == cookie
        payload = self.receive(chunk.length)
        if chunk.is_error:
            assert chunk.is_last
            return wire.parse_error(chunk.type, payload).error
        return 0

    def read(self, offset: int, length: int) -> bytes:
        """Read with simple replies."""
        cookie = self.request(Command.READ, offset, length)
        assert self.simple_reply() == wire.SimpleReply(0, cookie)
        return self.receive(length)

    def write(self, offset: int, data: bytes, flags: int = 0) -> None:
        cookie = self.request(Command.WRITE, offset, data=data, flags=flags)
        assert self.simple_reply() == wire.SimpleReply(0, cookie)

    def structured_read(self, offset: int, length: int, flags: int = 0) -> tuple[bytes, int]:
        """Read with structured replies; return the data and the number of content chunks."""
        cookie = self.request(Command.READ, offset, length, flags=flags)
        data, chunks = bytearray(length), 0
        while True:
            chunk, payload = self.chunk()
            assert chunk.cookie == cookie
            assert chunk.type == ChunkType.OFFSET_DATA
            at = wire.parse_data_offset(payload[:8]) - offset
            data[at : at + len(payload) - 8] = payload[8:]
            chunks += 1
            if chunk.is_last:
                return bytes(data), chunks


class WaitingNode(MemoryNode):
    """Waits like a device: reads return when the test lets them, unless they are cached."""

    reads_wait = True

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.begun = threading.Semaphore(0)
        self.let = threading.Semaphore(0)
        self.cached: set[int] = set()
        self.open = False

    def try_read_into(self, offset, buffer) -> bool:
        if offset not in self.cached:
            return False
        super().read_into(offset, buffer)
        return True

    def _wait(self) -> None:
        self.begun.release()
        if not self.open:
            assert self.let.acquire(timeout=PATIENCE_S)

    def read_into(self, offset, buffer) -> None:
        self._wait()
        super().read_into(offset, buffer)

    def flush(self) -> None:
        self._wait()
        super().flush()


def run(*command: str | Path, **options) -> str:
    """Run a real peer; its failure is ours."""
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@contextmanager
def peer(*command: str | Path, socket_path: Path) -> Iterator[subprocess.Popen]:
    """Run a server of somebody else until the test ends, from the moment it accepts."""
    process = subprocess.Popen(
        [str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: _accepts(socket_path) or process.poll() is not None)
        assert process.poll() is None, f"{command} has ended"
        yield process
    finally:
        process.kill()
        process.wait()


def _accepts(path: Path) -> bool:
    # A connection would count with servers that serve one client only.
    state = Path("/proc/net/unix").read_text()
    return any(
        line.endswith(f" {path}") and line.split()[3] == "00010000" for line in state.splitlines()
    )


def pattern(length: int, seed: int = 0) -> bytes:
    """Return bytes that differ everywhere and are the same in every run."""
    return b"".join((seed + position).to_bytes(8, "little") for position in range(0, length, 8))[
        :length
    ]
