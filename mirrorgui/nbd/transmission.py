"""The server's side of the transmission phase: one thread a connection, requests in, replies out.

What arrives in one go is served in one go: every complete request in the receive buffer, the
replies side by side in one reply buffer, read into place and sent with one system call. Requests
that wait for a device while others stand behind them are handed to a few helping threads, which
send their own replies; the cookies tell the client which is which.
"""

import select
import threading
import time

from mirrorgui.errors import BlockIOError
from mirrorgui.nbd.constants import (
    CHUNK_MAGIC,
    MAX_PAYLOAD,
    REQUEST_MAGIC,
    SIMPLE_REPLY_MAGIC,
    ChunkFlag,
    ChunkType,
    Command,
    CommandFlag,
)
from mirrorgui.nbd.handover import Handover
from mirrorgui.nbd.negotiation import Agreement
from mirrorgui.nbd.service import Job, Service, lazy_buffer
from mirrorgui.nbd.statistics import Counters
from mirrorgui.nbd.transport import receive_exactly
from mirrorgui.nbd.wire import DATA_CHUNK, REQUEST, SIMPLE_REPLY, Buffer, ProtocolError
from mirrorgui.nbd.workers import WorkerPool
from mirrorgui.units import KiB, MiB

_RECEIVE = 256 * KiB  # two batches of 32 requests of 4 KiB with their payloads
_REPLY = 512 * KiB  # a few large reads, or a batch of many small ones
_LARGE = 32 * KiB  # an incomplete payload from here on is received straight into its own buffer
_PIECE = 256 * KiB  # of a read too long for the reply buffer: still in the cache when it is sent

_KEPT_PAYLOAD = 4 * MiB  # a buffer for larger payloads is not kept between requests

_MAX_TOGETHER = 16
"""Reads for one helping thread: the one that takes longest delays the others with it."""

_MEMORY = 64
"""Lone requests that are still handed over after the last time that one made others wait."""

# Enum members are looked up through two dictionaries; these are in every request's way.
_READ, _WRITE, _DISC = int(Command.READ), int(Command.WRITE), int(Command.DISC)
_READ_BAD_FLAGS = ~int(CommandFlag.FUA | CommandFlag.DF)
_DONE = int(ChunkFlag.DONE)
_OFFSET_DATA = int(ChunkType.OFFSET_DATA)
_HEADER = REQUEST.size


class Transmission:
    """Serves one client until it leaves.

    Args:
        agreement: what the handshake ended with.
        helpers: most threads that help with requests that wait.
        name: for these threads.
        counters: written by this connection only.

    Concurrency: ``run`` belongs to the connection's thread; ``stop`` comes from any.
    """

    def __init__(
        self, agreement: Agreement, counters: Counters, *, helpers: int, name: str
    ) -> None:
        self._stream = agreement.stream
        self._export = agreement.export
        self._node = agreement.export.node
        self._size = self._node.size
        self._structured = agreement.structured
        self._header = DATA_CHUNK.size if agreement.structured else SIMPLE_REPLY.size
        self._service = Service(agreement, counters)
        self._counters = counters
        self._buffer = bytearray(_RECEIVE)
        self._view = memoryview(self._buffer)
        self._replies = bytearray(_REPLY)
        self._reply_view = memoryview(self._replies)
        self._ready = 0
        """Bytes of finished replies in the reply buffer."""
        self._payload = memoryview(b"")
        self._send_lock = threading.Lock()
        # Of this connection alone: replies that a client does not take hold up nobody else.
        self._pool = WorkerPool(helpers, name)
        self._handover = Handover(
            agreement.stream, self._send_lock, self._service, self._pool, counters
        )
        self._put_off_jobs: list[Job] = []
        self._waits = False
        """Whether this connection's own thread may just have waited for a device."""
        self._concurrent = 0
        self._was_large = False
        self._poll = select.poll()
        self._poll.register(agreement.stream.sock, select.POLLIN)
        self._leaving = False
        """Whether the client has said goodbye."""
        self._stopping = False

    def run(self) -> None:
        """Serve until the client leaves, or until ``stop``; every request taken is finished.

        Raises:
            ProtocolError: the client broke the protocol.
            OSError: the connection failed, or the client does not take its replies.
            EOFError: the client has gone in the middle of a request, which was not begun.
        """
        try:
            self._run()
        finally:
            self._handover.wait()
            self._pool.close()

    def stop(self) -> None:
        """Take no more requests; those being served are finished."""
        self._stopping = True

    def _run(self) -> None:
        filled = 0
        receive_into, view = self._stream.recv_into, self._view
        while not self._stopping and not self._leaving:
            # Behind one large payload there is likely to be another: taken from the socket with
            # its header, a part of it would have to be copied to where the rest is received.
            end = _HEADER if self._was_large and filled < _HEADER else _RECEIVE
            self._was_large = False
            count = receive_into(view[filled:end])
            if not count:
                return
            filled += count
            served = self._serve(filled)
            if self._waits:
                self._notice_waiting()
            if self._ready:
                self._send_ready()
            if served == filled:
                filled = 0
            elif served:
                view[: filled - served] = view[served:filled]
                filled -= served

    def _serve(self, filled: int) -> int:
        """Serve every complete request of the buffer.

        Returns:
            Where the first incomplete one begins.
        """
        buffer, view, counters = self._buffer, self._view, self._counters
        position = 0
        request = None
        while filled - position >= _HEADER:
            magic, flags, command, cookie, offset, length = REQUEST.unpack_from(buffer, position)
            if magic != REQUEST_MAGIC:
                raise ProtocolError(f"a request begins with {magic:#x}")
            start = position + _HEADER
            if command == _WRITE:
                end = start + length
                if end > filled:
                    if length < _LARGE:
                        break
                    self._write_large(flags, cookie, offset, length, view[start:filled])
                    end = filled
                else:
                    self._write(flags, cookie, offset, view[start:end], end == filled)
                position = end
            else:
                position = start
                if command == _READ:
                    self._read(flags, cookie, offset, length, start == filled)
                elif command == _DISC:
                    self._leaving = True
                    break
                else:
                    self._other(flags, command, cookie, offset, length, start == filled)
            request = command, offset, length
        if self._put_off_jobs:
            self._hand_over_put_off()
        if request is not None:
            counters.last = request
            counters.last_at = time.time()
        return position

    # Reading

    def _read(self, flags: int, cookie: int, offset: int, length: int, last: bool) -> None:
        counters = self._counters
        counters.reads += 1
        if flags & _READ_BAD_FLAGS or offset + length > self._size or not 0 < length <= MAX_PAYLOAD:
            self._perform(Job(flags, _READ, cookie, offset, length))
            return
        counters.bytes_read += length
        start = self._ready
        data = start + self._header
        if data + length > _REPLY:
            self._send_ready()
            if length > _REPLY - self._header:
                self._read_large(Job(flags, _READ, cookie, offset, length), last)
                return
            start, data = 0, self._header
        end = data + length
        target = self._reply_view[data:end]
        try:
            if not self._node.reads_wait:
                self._node.read_into(offset, target)
            elif not self._node.try_read_into(offset, target):
                if self._stands_in_the_way(last):
                    self._put_off(Job(flags, _READ, cookie, offset, length))
                    return
                self._node.read_into(offset, target)
        except BlockIOError as error:
            self._reply(self._service.failure(Job(flags, _READ, cookie, offset, length), error))
            return
        if self._structured:
            DATA_CHUNK.pack_into(
                self._replies, start, CHUNK_MAGIC, _DONE, _OFFSET_DATA, cookie, length + 8, offset
            )
        else:
            SIMPLE_REPLY.pack_into(self._replies, start, SIMPLE_REPLY_MAGIC, 0, cookie)
        self._ready = end

    def _read_large(self, job: Job, last: bool) -> None:
        """Read what does not fit into the reply buffer: in pieces, if the client takes pieces."""
        if self._node.reads_wait and self._stands_in_the_way(last):
            self._hand_over(job)
        elif not self._structured or job.flags & CommandFlag.DF:
            self._perform(job)
        else:
            self._read_pieces(job)

    def _read_pieces(self, job: Job) -> None:
        start, end = job.offset, job.offset + job.length
        for offset in range(start, end, _PIECE):
            length = min(_PIECE, end - offset)
            try:
                self._node.read_into(
                    offset, self._reply_view[DATA_CHUNK.size : DATA_CHUNK.size + length]
                )
            except BlockIOError as error:
                self._reply(self._service.failure(job, error))
                return
            flags = _DONE if offset + length == end else 0
            DATA_CHUNK.pack_into(
                self._replies, 0, CHUNK_MAGIC, flags, _OFFSET_DATA, job.cookie, length + 8, offset
            )
            self._ready = DATA_CHUNK.size + length
            self._send_ready()

    # Writing

    def _write(self, flags: int, cookie: int, offset: int, data: memoryview, last: bool) -> None:
        counters = self._counters
        counters.writes += 1
        length = len(data)
        service = self._service
        is_plain = not flags and length and not service.read_only and not service.writethrough
        if not is_plain or offset + length > self._size:
            self._perform_or_hand_over(Job(flags, _WRITE, cookie, offset, length, data), last)
            return
        counters.bytes_written += length
        if self._node.writes_wait and self._stands_in_the_way(last):
            self._hand_over(Job(flags, _WRITE, cookie, offset, length, bytes(data)))
            return
        try:
            self._node.write(offset, data)
        except BlockIOError as error:
            self._reply(self._service.failure(Job(flags, _WRITE, cookie, offset, length), error))
            return
        start = self._ready
        if start + SIMPLE_REPLY.size > _REPLY:
            self._send_ready()
            start = 0
        SIMPLE_REPLY.pack_into(self._replies, start, SIMPLE_REPLY_MAGIC, 0, cookie)
        self._ready = start + SIMPLE_REPLY.size

    def _write_large(
        self, flags: int, cookie: int, offset: int, length: int, begun: memoryview
    ) -> None:
        """Receive the rest of a payload straight into place, and only then write it."""
        if self._put_off_jobs:
            self._hand_over_put_off()
        self._send_ready()
        if length > MAX_PAYLOAD:
            self._skip_oversized(Job(flags, _WRITE, cookie, offset, length), len(begun))
            return
        waits = self._node.writes_wait
        if waits or length > _KEPT_PAYLOAD:
            payload = lazy_buffer(length)
        else:
            if len(self._payload) < length:
                self._payload = memoryview(bytearray(length))
            payload = self._payload[:length]
        payload[: len(begun)] = begun
        receive_exactly(self._stream, payload[len(begun) :])
        job = Job(flags, _WRITE, cookie, offset, length, payload)
        self._was_large = True
        self._counters.writes += 1
        self._counters.bytes_written += length
        # What else has arrived is still in the socket: it cannot be seen whether this one is last.
        if waits and self._stands_in_the_way(False):
            self._hand_over(job)
        else:
            self._perform(job)

    def _skip_oversized(self, job: Job, begun: int) -> None:
        """Refuse a payload that is too large; the connection goes on if it is not absurd."""
        if job.length > 2 * MAX_PAYLOAD:
            self._reply(self._service.refusal(job))
            self._send_ready()
            raise ProtocolError(f"the client sends a payload of {job.length} bytes")
        left = job.length - begun
        while left:
            count = min(left, _RECEIVE)
            # The receive buffer is free: whatever was in it has been served but for this request.
            receive_exactly(self._stream, self._view[:count])
            left -= count
        self._reply(self._service.refusal(job))

    # Everything else

    def _other(
        self, flags: int, command: int, cookie: int, offset: int, length: int, last: bool
    ) -> None:
        counters = self._counters
        if command == Command.FLUSH:
            counters.flushes += 1
        elif command in (Command.TRIM, Command.WRITE_ZEROES):
            counters.writes += 1
            counters.bytes_written += length
        self._perform_or_hand_over(Job(flags, command, cookie, offset, length), last)

    def _perform_or_hand_over(self, job: Job, last: bool) -> None:
        if self._stands_in_the_way(last):
            if isinstance(job.payload, memoryview):
                job.payload = bytes(job.payload)  # the receive buffer is used again
            self._hand_over(job)
        else:
            self._perform(job)

    def _perform(self, job: Job) -> None:
        """Serve a request on this thread."""
        self._reply(self._service.perform(job))

    def _stands_in_the_way(self, last: bool) -> bool:
        """Whether others would wait behind a request that waits for a device."""
        if not last or self._handover.count or self._put_off_jobs:
            return True
        if self._concurrent:
            self._concurrent -= 1
            return True
        self._waits = True
        return False

    def _notice_waiting(self) -> None:
        """See whether a request came in while this thread waited for a device.

        Before the reply is sent: a client that has one request at a time cannot have sent another.
        """
        self._waits = False
        if self._poll.poll(0):
            self._concurrent = _MEMORY

    # Replies

    def _reply(self, parts: list[Buffer]) -> None:
        """Send a reply that is not in the reply buffer, after those that are."""
        length = sum(map(len, parts))
        if length > _REPLY - self._ready:
            self._send_ready()
        if length > _REPLY:
            with self._send_lock:
                self._stream.send_parts(parts)
            return
        for part in parts:
            end = self._ready + len(part)
            self._reply_view[self._ready : end] = part
            self._ready = end

    def _send_ready(self) -> None:
        ready, self._ready = self._ready, 0
        if ready:
            with self._send_lock:
                self._stream.sendall(self._reply_view[:ready])

    # Helping threads

    def _hand_over(self, job: Job) -> None:
        if not self._handover.has_room(job):
            self._send_ready()
        self._handover.give([job])

    def _put_off(self, job: Job) -> None:
        """Hand a read over; several together, where the device begins with all of them at once."""
        if not self._node.prefetch(job.offset, job.length):
            self._hand_over(job)
            return
        self._put_off_jobs.append(job)
        if len(self._put_off_jobs) == _MAX_TOGETHER:
            self._hand_over_put_off()

    def _hand_over_put_off(self) -> None:
        jobs, self._put_off_jobs = self._put_off_jobs, []
        if not self._handover.has_room(jobs[0]):
            self._send_ready()
        self._handover.give(jobs)
