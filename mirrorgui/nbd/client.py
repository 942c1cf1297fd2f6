"""One connection of a client in the transmission phase, with many requests in flight.

There is no thread that receives: whoever waits for a reply receives, for the others too, until its
own reply is there, and then wakes one of them to go on. A single request costs no switch of
threads at all, and a connection without requests has no thread that waits.
"""

import contextlib
import threading
from collections.abc import Mapping

from mirrorgui.errors import MirrorGUIError
from mirrorgui.nbd import wire
from mirrorgui.nbd.client_handshake import Opened
from mirrorgui.nbd.constants import (
    CHUNK_MAGIC,
    REQUEST_MAGIC,
    SIMPLE_REPLY_MAGIC,
    ChunkType,
    Command,
    Error,
)
from mirrorgui.nbd.transport import Stream, limit_waiting, receive_exactly
from mirrorgui.nbd.wire import Buffer, ProtocolError
from mirrorgui.units import KiB, MiB

_LOOK_AHEAD = 16 * KiB  # a reply to a small read with its data, or hundreds without
_MAX_CONTROL_PAYLOAD = 8 * MiB  # block status of a million runs


class ConnectionLostError(MirrorGUIError):
    """The connection has ended; it is not known whether the request was carried out."""


class RequestFailedError(MirrorGUIError):
    """The server answered with an error; the connection goes on.

    Attributes:
        errno: the system's error number.
    """

    def __init__(self, errno: int, message: str) -> None:
        super().__init__(message)
        self.errno = errno


class _Request:
    """A request that waits for its reply."""

    __slots__ = (
        "command",
        "done",
        "errno",
        "filled",
        "length",
        "lost",
        "message",
        "offset",
        "runs",
        "view",
        "waiting",
        "wake",
    )

    def __init__(self, command: int, offset: int, length: int, view: memoryview | None) -> None:
        self.command = command
        self.offset = offset
        self.length = length
        self.view = view
        self.filled = 0
        self.runs: dict[str, list[tuple[int, int]]] = {}
        self.errno = 0
        self.message = ""
        self.lost = False
        self.done = False
        self.waiting = False
        self.wake = threading.Lock()  # held, but for the moment between a wake-up and its effect
        self.wake.acquire()


class ClientConnection:
    """Sends requests and matches replies.

    Args:
        opened: from the handshake.
        reply_timeout_s: the connection counts as lost when a reply is due and nothing at all
            comes for so long; 0 waits forever.

    Concurrency: every method but ``close`` may be called from any thread, also while others run.
    """

    def __init__(self, opened: Opened, reply_timeout_s: float = 0) -> None:
        self.info = opened.info
        self._stream = opened.stream
        self._structured = opened.structured
        self.contexts = opened.contexts
        self._names = {number: name for name, number in opened.contexts.items()}
        self._reader = _Reader(opened.stream)
        self._state = threading.Lock()
        self._send_lock = threading.Lock()
        self._requests: dict[int, _Request] = {}
        self._cookie = 0
        self._receiving = False
        self._lost = ""
        limit_waiting(opened.stream.sock, send_s=reply_timeout_s, receive_s=reply_timeout_s)

    @property
    def in_flight(self) -> int:
        """Number of requests without a reply so far."""
        return len(self._requests)

    @property
    def is_lost(self) -> bool:
        """Whether nothing more can be asked."""
        return bool(self._lost)

    def read(self, offset: int, view: memoryview) -> None:
        """Fill ``view``.

        Raises:
            RequestFailedError: the server answered with an error.
            ConnectionLostError: there will be no answer.
        """
        self._ask(Command.READ, 0, offset, len(view), view=view)

    def write(self, offset: int, data: Buffer) -> None:
        """Write all of ``data``. Raises as ``read``."""
        self._ask(Command.WRITE, 0, offset, len(data), data=data)

    def ask(self, command: int, flags: int, offset: int, length: int) -> None:
        """Send a request without payload and wait for its success. Raises as ``read``."""
        self._ask(command, flags, offset, length)

    def block_status(self, offset: int, length: int) -> Mapping[str, list[tuple[int, int]]]:
        """Ask for what all ``contexts`` say, of which there must be one. Raises as ``read``.

        Returns:
            For each of them adjacent runs from ``offset`` as (length, flags), at least one; they
            may end before the range does, or behind it.
        """
        return self._ask(Command.BLOCK_STATUS, 0, offset, length).runs

    def abort(self) -> None:
        """Give the connection up: whoever waits gets ``ConnectionLostError`` at once."""
        self._stream.abort()

    def close(self) -> None:
        """Say goodbye and release the connection. No other call may be running or follow."""
        if not self._lost:
            goodbye = wire.REQUEST.pack(REQUEST_MAGIC, 0, Command.DISC, 0, 0, 0)
            limit_waiting(self._stream.sock, send_s=1)
            with contextlib.suppress(OSError):
                self._stream.sendall(goodbye)
            self._lost = "closed"
        self._stream.close()

    # Asking

    def _ask(
        self,
        command: int,
        flags: int,
        offset: int,
        length: int,
        *,
        data: Buffer = b"",
        view: memoryview | None = None,
    ) -> _Request:
        request = _Request(command, offset, length, view)
        with self._state:
            if self._lost:
                raise ConnectionLostError(self._lost)
            self._cookie += 1
            cookie = self._cookie
            self._requests[cookie] = request
        header = wire.REQUEST.pack(REQUEST_MAGIC, flags, command, cookie, offset, length)
        try:
            with self._send_lock:
                if data:
                    self._stream.send_parts((header, data))
                else:
                    self._stream.sendall(header)
        except OSError:
            # Only the receiving thread ends requests: it may be filling somebody's buffer.
            self._stream.abort()
        self._await(request)
        if request.lost:
            raise ConnectionLostError(self._lost)
        if request.errno:
            raise RequestFailedError(request.errno, request.message)
        return request

    def _await(self, request: _Request) -> None:
        while True:
            with self._state:
                if request.done:
                    return
                if not self._receiving:
                    self._receiving = True
                    break
                request.waiting = True
            request.wake.acquire()
        try:
            while not request.done:
                self._receive_reply()
        except (OSError, EOFError, ProtocolError) as error:
            self._lose(error)
        except BaseException as error:
            self._lose(error)  # interrupted in the middle of a reply: the rest makes no sense
            raise
        finally:
            with self._state:
                self._receiving = False
                # Somebody else's turn, if anybody waits. Who is still sending takes it later.
                for other in self._requests.values():
                    if other.waiting:
                        self._wake(other)
                        break

    def _wake(self, request: _Request) -> None:
        """Wake a request's thread, if it sleeps. The caller holds the state's lock."""
        if request.waiting:
            request.waiting = False
            request.wake.release()

    def _lose(self, error: BaseException) -> None:
        """End everything. Only the receiving thread does it, when it fills no buffer."""
        self._stream.abort()
        if isinstance(error, BlockingIOError):
            reason = "the server does not answer any more"
        elif isinstance(error, OSError):
            reason = error.strerror or str(error)
        else:
            reason = str(error)
        with self._state:
            self._lost = self._lost or reason
            for request in self._requests.values():
                request.lost = request.done = True
                self._wake(request)
            self._requests.clear()

    # Receiving

    def _receive_reply(self) -> None:
        """Receive one simple reply or one chunk, and take it to its request."""
        head = self._reader.take(wire.SIMPLE_REPLY.size)
        magic = int.from_bytes(head[:4], "big")
        if magic == SIMPLE_REPLY_MAGIC:
            self._simple_reply(wire.parse_simple_reply(head))
        elif magic == CHUNK_MAGIC and self._structured:
            rest = self._reader.take(wire.CHUNK.size - wire.SIMPLE_REPLY.size)
            self._chunk(wire.parse_chunk(head + rest))
        else:
            raise ProtocolError(f"a reply begins with {magic:#x}")

    def _find(self, cookie: int) -> _Request:
        with self._state:
            request = self._requests.get(cookie)
        if request is None:
            raise ProtocolError(f"the server answers a request {cookie} that was not made")
        return request

    def _finish(self, cookie: int, request: _Request) -> None:
        with self._state:
            del self._requests[cookie]
            request.done = True
            self._wake(request)

    def _simple_reply(self, reply: wire.SimpleReply) -> None:
        request = self._find(reply.cookie)
        if reply.error:
            self._fail(request, reply.error, "")
        elif request.view is not None:
            if self._structured:
                raise ProtocolError("the server answers a read with a simple reply")
            self._reader.fill(request.view)
        elif request.command == Command.BLOCK_STATUS:
            raise ProtocolError("the server answers a block status without any")
        self._finish(reply.cookie, request)

    def _chunk(self, chunk: wire.Chunk) -> None:
        request = self._find(chunk.cookie)
        if chunk.type == ChunkType.OFFSET_DATA:
            self._data(request, chunk.length)
        elif chunk.length > _MAX_CONTROL_PAYLOAD:
            raise ProtocolError(f"the server sends a chunk of {chunk.length} bytes")
        else:
            self._control(request, chunk, self._reader.take(chunk.length))
        if chunk.is_last:
            self._check_complete(request)
            self._finish(chunk.cookie, request)

    def _control(self, request: _Request, chunk: wire.Chunk, payload: bytes) -> None:
        if chunk.is_error:
            error = wire.parse_error(chunk.type, payload)
            self._fail(request, error.error, error.message)
        elif chunk.type == ChunkType.NONE:
            if payload or not chunk.is_last:
                raise ProtocolError("the server sends an empty chunk that is not the last one")
        elif chunk.type == ChunkType.OFFSET_HOLE:
            offset, length = wire.parse_hole(payload)
            view = self._part(request, offset, length)
            view[:] = bytes(length)
        elif chunk.type == ChunkType.BLOCK_STATUS:
            context_id, runs = wire.parse_block_status(payload)
            name = self._names.get(context_id)
            if request.command != Command.BLOCK_STATUS or name is None:
                raise ProtocolError("the server sends a block status that was not asked for")
            request.runs[name] = runs
        else:
            raise ProtocolError(f"the server sends a chunk of unknown type {chunk.type}")

    def _data(self, request: _Request, length: int) -> None:
        if length < 9:
            raise ProtocolError(f"the server sends a data chunk of {length} bytes")
        offset = wire.parse_data_offset(self._reader.take(8))
        self._reader.fill(self._part(request, offset, length - 8))

    def _part(self, request: _Request, offset: int, length: int) -> memoryview:
        """Return the part of a read's buffer that a chunk is for."""
        start = offset - request.offset
        if request.view is None or start < 0 or start + length > request.length:
            raise ProtocolError("the server sends data that was not asked for")
        request.filled += length
        return request.view[start : start + length]

    def _check_complete(self, request: _Request) -> None:
        """Refuse a success that lacks something."""
        if request.errno:
            return
        if request.view is not None and request.filled != request.length:
            raise ProtocolError(f"the server sent {request.filled} of {request.length} bytes")
        if request.command == Command.BLOCK_STATUS and len(request.runs) < len(self.contexts):
            raise ProtocolError("the server answers a block status without any")

    def _fail(self, request: _Request, error: int, message: str) -> None:
        if error == Error.ESHUTDOWN:
            # The specification wants us to leave; the request may be repeated elsewhere.
            raise ProtocolError("the server is shutting down")
        request.errno = request.errno or wire.system_error(error)
        request.message = request.message or message


class _Reader:
    """Receives through a small buffer: several short replies come with one system call."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._view = memoryview(bytearray(_LOOK_AHEAD))
        self._start = self._end = 0

    def take(self, length: int) -> bytes:
        """Receive ``length`` bytes."""
        if length > _LOOK_AHEAD:
            data = bytearray(length)
            self.fill(memoryview(data))
            return bytes(data)
        while self._end - self._start < length:
            if self._start:
                left = self._end - self._start
                self._view[:left] = self._view[self._start : self._end]
                self._start, self._end = 0, left
            count = self._stream.recv_into(self._view[self._end :])
            if not count:
                raise EOFError("the server closed the connection")
            self._end += count
        start = self._start
        self._start += length
        return bytes(self._view[start : self._start])

    def fill(self, view: memoryview) -> None:
        """Receive straight into ``view`` what has not been received yet."""
        ready = min(self._end - self._start, len(view))
        view[:ready] = self._view[self._start : self._start + ready]
        self._start += ready
        if ready < len(view):
            receive_exactly(self._stream, view[ready:])
