"""A remote image: an export of an NBD server as a node."""

import errno
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from mirrorgui.block.checks import check_change, check_range
from mirrorgui.block.nbd_links import LinkCancelledError, LinkDownError, Links
from mirrorgui.block.node import BlockLimits, BlockNode, Buffer, Extent, ExtentKind
from mirrorgui.errors import BlockIOError, ImageRefused, RequestCancelled
from mirrorgui.nbd.client import ClientConnection, RequestFailedError
from mirrorgui.nbd.client_handshake import open_export
from mirrorgui.nbd.constants import (
    BASE_ALLOCATION,
    MAX_PAYLOAD,
    Command,
    CommandFlag,
    State,
    TransmissionFlag,
)
from mirrorgui.nbd.handshake import BlockSizes, ExportInfo
from mirrorgui.nbd.tls import TlsCredentials
from mirrorgui.nbd.uri import NbdAddress, format_uri, parse_uri
from mirrorgui.units import GiB, MiB, align_down, align_up

CONNECTIONS = 4
"""As many as nbdcopy and nbdkit's clients open by default; more gained nothing there."""

CONNECT_TIMEOUT_S = 10.0

RECONNECT_S = 10.0
"""Long enough for a server to be restarted, short enough for a person who watches."""

_MAX_LENGTH = 1 * GiB
"""Longest request without payload where the server names no limit; the protocol's is 4 GiB."""

_MAX_SIZE = 2**63 - 1
_ZEROES = memoryview(bytes(1 * MiB))


class NbdNode(BlockNode):
    """An export of an NBD server.

    Args:
        address: the server and the export, as URI or parsed.
        read_only: never change anything; an export that cannot be changed is refused otherwise.
        name: for messages; the URI by default.
        node_name: its name among nodes.
        field: the option that named the address, for refusals: ``source``, ``target``, ...
        tls: certificates; None takes those of the URI, or the system's authorities.
        connections: most connections at a time, where the server allows several.
        connect_timeout_s: for connecting and the handshake together.
        reconnect_s: how long requests wait for a lost server to come back; 0 tries once.
        contexts: what ``extents`` asks the server for.
        reply_timeout_s: the server counts as lost when a reply is due and nothing at all comes
            for so long; 0 waits until ``cancel_in_flight``.

    Raises:
        ImageRefused: it cannot be opened, or not be written to; the reason says why.
        InvalidInput: the URI is none, or certificates are missing or unusable.

    Requests that were under way when a connection was lost are repeated on the next one.

    XXX After a reconnection a server that lost its cache (its host crashed) may have lost writes
    that were not flushed, and a server that still works on the old connection may carry an old
    write out late. The protocol has no means against either; QEMU's client has the same limits.

    Concurrency: as ``BlockNode``; many requests are in flight on each connection.
    """

    driver = "nbd"
    reads_wait = True
    writes_wait = True

    def __init__(
        self,
        address: NbdAddress | str,
        *,
        read_only: bool = False,
        name: str | None = None,
        node_name: str = "",
        field: str = "uri",
        tls: TlsCredentials | None = None,
        connections: int = CONNECTIONS,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        reconnect_s: float = RECONNECT_S,
        reply_timeout_s: float = 0.0,
        contexts: tuple[str, ...] = (BASE_ALLOCATION,),
    ) -> None:
        self.address = parse_uri(address) if isinstance(address, str) else address
        self.uri = format_uri(self.address)
        self.name = self.uri if name is None else name
        self.node_name = node_name
        self.read_only = read_only
        self._field = field
        self._tls = tls
        self._connect_timeout_s = connect_timeout_s
        self._reply_timeout_s = reply_timeout_s
        self._contexts = contexts
        self._info: ExportInfo | None = None
        first = self._connect()
        info = self._info = first.info
        self.size = info.size
        self._flags = info.flags
        sizes = info.block_sizes or BlockSizes()
        self._alignment = sizes.minimum
        self._max_transfer = align_down(min(sizes.maximum, MAX_PAYLOAD), sizes.minimum)
        self._max_length = align_down(min(sizes.maximum, _MAX_LENGTH), sizes.minimum)
        self.limits = BlockLimits(
            request_alignment=sizes.minimum,
            can_zero=self._has(TransmissionFlag.SEND_WRITE_ZEROES),
            can_discard=self._has(TransmissionFlag.SEND_TRIM),
            max_transfer=self._max_transfer,
            latency_bound=True,
        )
        several = self._has(TransmissionFlag.CAN_MULTI_CONN)
        self._links = Links(
            self._connect, first, limit=connections if several else 1, reconnect_s=reconnect_s
        )
        self._gate = _Gate()

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return len(self._links)

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        """See ``BlockNode.read_into``."""
        length = len(buffer)
        check_range(self, "read", offset, length)
        with self._errors("read", offset, length):
            if self._is_aligned(offset, length):
                self._read(offset, memoryview(buffer))
            else:
                start = align_down(offset, self._alignment)
                around = self._read_around(start, offset + length)
                buffer[:] = around[offset - start : offset - start + length]

    def write(self, offset: int, data: Buffer) -> None:
        """See ``BlockNode.write``."""
        length = len(data)
        check_change(self, "write", offset, length)
        with self._errors("write", offset, length):
            if self._is_aligned(offset, length):
                with self._gate.shared():
                    self._write(offset, memoryview(data))
                return
            start = align_down(offset, self._alignment)
            # Nobody may write the rest of the outer blocks between reading and writing them.
            with self._gate.exclusive():
                around = self._read_around(start, offset + length)
                around[offset - start : offset - start + length] = data
                self._write(start, around)

    def write_zeroes(self, offset: int, length: int, *, may_unmap: bool = True) -> None:
        """See ``BlockNode.write_zeroes``."""
        check_change(self, "write_zeroes", offset, length)
        start = min(align_up(offset, self._alignment), offset + length)
        end = max(align_down(offset + length, self._alignment), start)
        for at, count in ((offset, start - offset), (end, offset + length - end)):
            if count:
                self.write(at, bytes(count))
        with self._errors("write_zeroes", offset, length), self._gate.shared():
            if self.limits.can_zero:
                flags = 0 if may_unmap else CommandFlag.NO_HOLE
                self._ask(Command.WRITE_ZEROES, flags, start, end - start)
            else:
                for at in range(start, end, len(_ZEROES)):
                    self._write(at, _ZEROES[: min(len(_ZEROES), end - at)])

    def discard(self, offset: int, length: int) -> None:
        """See ``BlockNode.discard``. Whole blocks of the server only."""
        check_change(self, "discard", offset, length)
        start = align_up(offset, self._alignment)
        end = align_down(offset + length, self._alignment)
        if self.limits.can_discard and end > start:
            with self._errors("discard", offset, length), self._gate.shared():
                self._ask(Command.TRIM, 0, start, end - start)

    def flush(self) -> None:
        """See ``BlockNode.flush``. A flush on one connection covers them all."""
        if self.read_only or not self._has(TransmissionFlag.SEND_FLUSH):
            return
        with self._errors("flush", 0, 0):
            self._links.run(lambda connection: connection.ask(Command.FLUSH, 0, 0, 0))

    def extents(self, offset: int, length: int) -> list[Extent]:
        """See ``BlockNode.extents``. DATA where the server does not tell."""
        check_range(self, "extents", offset, length)
        found: list[Extent] = []
        position, end = offset, offset + length
        with self._errors("extents", offset, length):
            while position < end:
                for run in self._status(position, end):
                    if found and found[-1].kind is run.kind:
                        run = Extent(found[-1].offset, found.pop().length + run.length, run.kind)
                    found.append(run)
                    position = run.end
        return found

    def cancel_in_flight(self) -> None:
        """Make requests that hang return at once; later ones connect anew."""
        self._links.cancel()

    def close(self) -> None:
        """Say goodbye to the server and release the connections. Idempotent."""
        self._links.close()

    # Connections

    def _connect(self) -> ClientConnection:
        opened = open_export(
            self.address,
            tls=self._tls,
            timeout_s=self._connect_timeout_s,
            field=self._field,
            contexts=self._contexts,
        )
        connection = ClientConnection(opened, self._reply_timeout_s)
        reason = self._objection(opened.info)
        if reason:
            connection.close()
            raise ImageRefused(self._field, self.name, reason)
        return connection

    def _objection(self, info: ExportInfo) -> str:
        """Say why an export cannot be used, or no longer be used; empty when it can."""
        sizes = info.block_sizes or BlockSizes()
        if info.flags & TransmissionFlag.READ_ONLY and not self.read_only:
            return "the export is read-only"
        if info.size > _MAX_SIZE:
            return f"the export's size {info.size} is too large"
        if info.size % sizes.minimum:
            return f"the export's size {info.size} is no multiple of its block size {sizes.minimum}"
        if self._info is not None and info.size != self._info.size:
            return f"the export's size has changed from {self._info.size} to {info.size}"
        if self._info is not None and sizes != (self._info.block_sizes or BlockSizes()):
            return "the export's block sizes have changed"
        return ""

    def _has(self, flag: TransmissionFlag) -> bool:
        return bool(self._flags & flag)

    @contextmanager
    def _errors(self, operation: str, offset: int, length: int) -> Iterator[None]:
        """Turn what connections raise into what nodes raise."""
        try:
            yield
        except RequestFailedError as error:
            raise BlockIOError(operation, offset, length, error.errno, self.name) from error
        except LinkCancelledError as error:
            raise RequestCancelled(operation, offset, length, self.name) from error
        except LinkDownError as error:
            raise BlockIOError(operation, offset, length, errno.ENOTCONN, self.name) from error

    # Aligned requests of any length

    def _is_aligned(self, offset: int, length: int) -> bool:
        return self._alignment == 1 or not (offset % self._alignment or length % self._alignment)

    def _pieces(self, offset: int, length: int, most: int) -> Iterator[tuple[int, int]]:
        for position in range(offset, offset + length, most):
            yield position, min(most, offset + length - position)

    def _read(self, offset: int, view: memoryview) -> None:
        for at, length in self._pieces(offset, len(view), self._max_transfer):
            part = view[at - offset : at - offset + length]
            self._run(ClientConnection.read, at, part)

    def _read_around(self, start: int, end: int) -> memoryview:
        """Read the whole blocks from ``start``, which is aligned, to behind ``end``."""
        around = memoryview(bytearray(align_up(end, self._alignment) - start))
        self._read(start, around)
        return around

    def _write(self, offset: int, data: memoryview) -> None:
        for at, length in self._pieces(offset, len(data), self._max_transfer):
            self._run(ClientConnection.write, at, data[at - offset : at - offset + length])

    def _run(
        self, method: Callable[[ClientConnection, int, memoryview], None], at: int, part: memoryview
    ) -> None:
        self._links.run(lambda connection: method(connection, at, part))

    def _ask(self, command: Command, flags: int, offset: int, length: int) -> None:
        for at, count in self._pieces(offset, length, self._max_length):
            self._ask_once(command, flags, at, count)

    def _ask_once(self, command: Command, flags: int, offset: int, length: int) -> None:
        self._links.run(lambda connection: connection.ask(command, flags, offset, length))

    def _status(self, offset: int, end: int) -> Iterator[Extent]:
        """Describe a range from its beginning, possibly not to its end, but never beyond."""
        start = align_down(offset, self._alignment)
        length = min(align_up(end, self._alignment) - start, self._max_length)

        def ask(connection: ClientConnection) -> list[tuple[int, ExtentKind]]:
            if not connection.contexts:
                return [(length, ExtentKind.DATA)]
            return self._kinds(connection.block_status(start, length))

        position = start
        for count, kind in self._links.run(ask):
            first, last = max(position, offset), min(position + count, end)
            if first < last:
                yield Extent(first, last - first, kind)
            position += count

    def _kinds(self, told: Mapping[str, list[tuple[int, int]]]) -> list[tuple[int, ExtentKind]]:
        """Return adjacent runs as (length, kind) of what the contexts say."""
        return [
            (length, ExtentKind.ZERO if flags & State.ZERO else ExtentKind.DATA)
            for length, flags in told.get(BASE_ALLOCATION) or [(self._max_length, 0)]
        ]


class _Gate:
    """Lets many in, or one alone: writes of whole blocks, or one that reads around itself."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._inside = 0
        self._alone = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._alone)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._alone)
            self._alone = True  # before the others have left: newcomers must not starve it
            self._changed.wait_for(lambda: not self._inside)
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()
