"""Serving single requests: checks them, carries them out on the node, makes the replies."""

import errno
import mmap
import threading
from collections.abc import Callable
from typing import TypeAlias

from mirrorgui.errors import BlockIOError
from mirrorgui.nbd import wire
from mirrorgui.nbd.constants import MAX_PAYLOAD, ChunkFlag, ChunkType, Command, CommandFlag, Error
from mirrorgui.nbd.negotiation import Agreement
from mirrorgui.nbd.statistics import Counters
from mirrorgui.nbd.wire import Buffer
from mirrorgui.units import MiB

_CACHE_STEP = 1 * MiB

_FLAGS = {
    Command.READ: CommandFlag.FUA | CommandFlag.DF,
    Command.WRITE: CommandFlag.FUA,
    Command.FLUSH: CommandFlag.FUA,
    Command.TRIM: CommandFlag.FUA,
    Command.CACHE: CommandFlag.FUA,
    Command.WRITE_ZEROES: CommandFlag.FUA | CommandFlag.NO_HOLE | CommandFlag.FAST_ZERO,
    Command.BLOCK_STATUS: CommandFlag.FUA | CommandFlag.REQ_ONE,
}
"""What each command may carry; FUA is to be accepted everywhere (specification, Command flags)."""

_CHANGES = (Command.WRITE, Command.TRIM, Command.WRITE_ZEROES)

_LAZY = 1 * MiB  # from here on, pages that nothing has been put into are better not there at all

Reply: TypeAlias = list[Buffer]


def lazy_buffer(length: int) -> memoryview:
    """Return a buffer that takes memory only as it is filled, when it is a large one.

    A client that announces 32 MiB and sends nothing costs nothing.
    """
    return memoryview(bytearray(length) if length < _LAZY else mmap.mmap(-1, length))


class Job:
    """A request with its payload, on its way through the server."""

    __slots__ = ("command", "cookie", "flags", "length", "offset", "payload")

    def __init__(
        self,
        flags: int,
        command: int,
        cookie: int,
        offset: int,
        length: int,
        payload: Buffer = b"",
    ) -> None:
        self.flags = flags
        self.command = command
        self.cookie = cookie
        self.offset = offset
        self.length = length
        self.payload = payload


class Service:
    """Carries out requests of one connection.

    Args:
        agreement: what the handshake ended with.
        counters: failed requests are counted there.

    Concurrency: every method may be called from several threads at once.
    """

    def __init__(self, agreement: Agreement, counters: Counters) -> None:
        self._export = agreement.export
        self._node = agreement.export.node
        self._size = self._node.size
        self._structured = agreement.structured
        self._contexts = agreement.contexts
        self.read_only = self._export.read_only or self._node.read_only
        self.writethrough = self._export.writethrough
        self._counters = counters
        self._counting = threading.Lock()
        self._handlers: dict[int, Callable[[Job], Reply]] = {
            Command.READ: self._read,
            Command.WRITE: self._write,
            Command.FLUSH: self._flush,
            Command.TRIM: self._trim,
            Command.CACHE: self._cache,
            Command.WRITE_ZEROES: self._write_zeroes,
            Command.BLOCK_STATUS: self._block_status,
        }

    def perform(self, job: Job) -> Reply:
        """Carry a request out, or refuse it; return the whole reply."""
        refusal = self._refusal(job)
        if refusal is not None:
            return self._error(job, *refusal)
        try:
            return self._handlers[job.command](job)
        except BlockIOError as error:
            return self.failure(job, error)

    def try_read(self, job: Job) -> Reply | None:
        """Return the reply to a valid READ if its data is at hand, or None."""
        data = lazy_buffer(job.length)
        try:
            done = self._node.try_read_into(job.offset, data)
        except BlockIOError as error:
            return self.failure(job, error)
        return [self._read_header(job), data] if done else None

    def failure(self, job: Job, error: BlockIOError) -> Reply:
        """Return the reply to a request that failed on the node."""
        code = wire.wire_error(error.errno)
        if code == Error.ENOTSUP:  # has a meaning of its own (specification, Error values)
            code = Error.EINVAL
        return self._error(job, code, str(error))

    def refusal(self, job: Job) -> Reply:
        """Return the reply to a request that ``perform`` would refuse."""
        return self._error(job, *(self._refusal(job) or (Error.EINVAL, "the request is too large")))

    def _refusal(self, job: Job) -> tuple[int, str] | None:
        """Say what is wrong with a request before anything is done, as the specification asks."""
        command, length = job.command, job.length
        if command not in _FLAGS:
            return Error.EINVAL, f"command {command} is not supported"
        if job.flags & ~int(_FLAGS[Command(command)]):
            return Error.EINVAL, f"flags {job.flags:#x} do not belong to {Command(command).name}"
        if command in _CHANGES and self.read_only:
            return Error.EPERM, "the export is read-only"
        if command == Command.FLUSH:
            misused = job.offset or length
            return (Error.EINVAL, "a flush has neither offset nor length") if misused else None
        if command in (Command.READ, Command.WRITE, Command.CACHE) and length > MAX_PAYLOAD:
            return Error.EINVAL, f"{length} bytes are more than {MAX_PAYLOAD}"
        if job.offset + length > self._size:
            code = (
                Error.ENOSPC if command in (Command.WRITE, Command.WRITE_ZEROES) else Error.EINVAL
            )
            return code, f"offset {job.offset} and length {length} reach beyond {self._size}"
        if command == Command.BLOCK_STATUS:
            if not self._contexts:
                return Error.EINVAL, "no metadata context has been selected"
            if not length:
                return Error.EINVAL, "a block status of nothing"
        return None

    def _error(self, job: Job, code: int, text: str) -> Reply:
        with self._counting:
            self._counters.errors += 1
        if not self._structured:
            return [wire.pack_simple_reply(code, job.cookie)]
        payload = wire.pack_error(wire.ErrorChunk(code, text))
        return [wire.pack_chunk(ChunkFlag.DONE, ChunkType.ERROR, job.cookie, payload)]

    def _success(self, job: Job) -> Reply:
        return [wire.pack_simple_reply(0, job.cookie)]

    # Commands

    def _read(self, job: Job) -> Reply:
        if self._structured and not job.length:
            return [wire.pack_chunk(ChunkFlag.DONE, ChunkType.NONE, job.cookie)]
        data = lazy_buffer(job.length)
        if job.length:
            self._node.read_into(job.offset, data)
        return [self._read_header(job), data]

    def _read_header(self, job: Job) -> bytes:
        if not self._structured:
            return wire.pack_simple_reply(0, job.cookie)
        return wire.pack_data_header(ChunkFlag.DONE, job.cookie, job.offset, job.length)

    def _write(self, job: Job) -> Reply:
        if job.length:
            self._node.write(job.offset, job.payload)
        return self._changed(job)

    def _flush(self, job: Job) -> Reply:
        self._node.flush()
        return self._success(job)

    def _trim(self, job: Job) -> Reply:
        if job.length:
            self._node.discard(job.offset, job.length)
        return self._changed(job)

    def _write_zeroes(self, job: Job) -> Reply:
        if job.flags & CommandFlag.FAST_ZERO and not self._node.limits.can_zero:
            return self._error(job, Error.ENOTSUP, "zeroes would be written as data")
        if job.length:
            may_unmap = not job.flags & CommandFlag.NO_HOLE
            self._node.write_zeroes(job.offset, job.length, may_unmap=may_unmap)
        return self._changed(job)

    def _changed(self, job: Job) -> Reply:
        if job.flags & CommandFlag.FUA or self.writethrough:
            self._node.flush()
        return self._success(job)

    def _cache(self, job: Job) -> Reply:
        """Read and forget: what is slow to get is in the caches below afterwards."""
        scratch = memoryview(bytearray(min(job.length, _CACHE_STEP)))
        end = job.offset + job.length
        for offset in range(job.offset, end, _CACHE_STEP):
            self._node.read_into(offset, scratch[: min(_CACHE_STEP, end - offset)])
        return self._success(job)

    def _block_status(self, job: Job) -> Reply:
        only_one = bool(job.flags & CommandFlag.REQ_ONE)
        parts: Reply = []
        for context in self._contexts:
            runs = context.status(job.offset, job.length, only_one=only_one)
            if not runs:
                raise BlockIOError("extents", job.offset, job.length, errno.EIO, self._node.name)
            last = ChunkFlag.DONE if context is self._contexts[-1] else 0
            payload = wire.pack_block_status(context.id, runs)
            parts.append(wire.pack_chunk(last, ChunkType.BLOCK_STATUS, job.cookie, payload))
        return parts
