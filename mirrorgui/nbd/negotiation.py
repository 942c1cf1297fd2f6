"""The server's side of the handshake: from the greeting to an export, or to the end."""

import enum
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from mirrorgui.nbd import handshake
from mirrorgui.nbd.constants import ClientFlag, HandshakeFlag, Info, Option, Reply
from mirrorgui.nbd.export import Context, Export
from mirrorgui.nbd.tls import TlsStream
from mirrorgui.nbd.transport import PlainStream, Stream, receive_before
from mirrorgui.nbd.wire import ProtocolError, parse_string
from mirrorgui.units import KiB, MiB

Parsed = TypeVar("Parsed")

_MAX_OPTION = 64 * KiB
"""Longest option that is looked at: room for a name and a good number of queries."""

# A plain number: the complement of an IntFlag has none of the unknown bits.
_CLIENT_FLAGS = int(ClientFlag.FIXED_NEWSTYLE | ClientFlag.NO_ZEROES)

_MAX_SKIPPED = 1 * MiB
"""Longest option that is at least skipped; more is taken for an attack."""


class TlsMode(enum.Enum):
    """Whether connections are encrypted."""

    OFF = "off"
    """Never."""
    ON = "on"
    """When the client wants."""
    REQUIRED = "required"
    """Always; nothing is told to a client before."""


class ExportTable(Protocol):
    """Where a handshake finds exports."""

    def find(self, name: str) -> Export | None:
        """Return the export of that name; the empty name may stand for a default one."""

    def all(self) -> Sequence[Export]:
        """Return every export, in the order of their names."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """What a client and the server have agreed on.

    Attributes:
        stream: the connection, encrypted by now or not.
        export: what the client works on.
        structured: replies are structured.
        contexts: metadata contexts for BLOCK_STATUS.
    """

    stream: Stream
    export: Export
    structured: bool
    contexts: tuple[Context, ...]


class Negotiation:
    """One handshake.

    Args:
        stream: a client that has just connected.
        exports: what it may choose from.
        on_choice: told of the client's choice before the client knows that it is granted; False
            when the export has gone meanwhile.
        tls: certificates, or None for ``TlsMode.OFF``.
        tls_mode: whether TLS is off, on or required.
        deadline_ns: moment of ``time.monotonic_ns`` at which patience ends.
    """

    def __init__(
        self,
        stream: PlainStream,
        exports: ExportTable,
        *,
        on_choice: Callable[[Export], bool],
        tls: ssl.SSLContext | None,
        tls_mode: TlsMode,
        deadline_ns: int,
    ) -> None:
        self.stream: Stream = stream
        self._plain = stream
        self._exports = exports
        self._on_choice = on_choice
        self._tls = tls
        self._tls_mode = tls_mode
        self._deadline_ns = deadline_ns
        self._encrypted = False
        self._no_zeroes = False
        self._structured = False
        self._contexts: tuple[Context, ...] = ()
        self._contexts_of: Export | None = None
        self._handlers: dict[int, Callable[[int, bytes], Agreement | None]] = {
            Option.LIST: self._list,
            Option.STARTTLS: self._start_tls,
            Option.INFO: self._info,
            Option.GO: self._info,
            Option.STRUCTURED_REPLY: self._structured_reply,
            Option.LIST_META_CONTEXT: self._list_contexts,
            Option.SET_META_CONTEXT: self._set_contexts,
        }

    def run(self) -> Agreement | None:
        """Negotiate.

        Returns:
            What was agreed on, or None when the client took its leave.

        Raises:
            ProtocolError: the client broke the protocol, or wants what cannot be refused politely.
            OSError: the connection failed, or the client was too slow (``TimeoutError``).
            EOFError: the client has gone.
        """
        self._send(handshake.pack_greeting(HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES))
        (flags,) = handshake.CLIENT_FLAGS.unpack(self._receive(handshake.CLIENT_FLAGS.size))
        if flags & ~_CLIENT_FLAGS:
            raise ProtocolError(f"the client sets unknown flags {flags:#x}")
        self._no_zeroes = bool(flags & ClientFlag.NO_ZEROES)
        while True:
            header = handshake.parse_option_header(self._receive(handshake.OPTION_HEADER.size))
            data = self._receive_data(header)
            if header.option == Option.EXPORT_NAME:
                return self._export_name(data)
            if not flags & ClientFlag.FIXED_NEWSTYLE:
                raise ProtocolError("a client without fixed newstyle can only choose an export")
            if header.option == Option.ABORT:
                self._answer(header.option, Reply.ACK)
                return None
            agreement = self._handle(header.option, data)
            if agreement is not None:
                return agreement

    def _handle(self, option: int, data: bytes | None) -> Agreement | None:
        handler = self._handlers.get(option)
        if self._tls_mode is TlsMode.REQUIRED and not self._encrypted and option != Option.STARTTLS:
            self._refuse(option, Reply.ERR_TLS_REQD, "this server requires TLS")
        elif handler is None:
            self._refuse(option, Reply.ERR_UNSUP, f"option {option} is not supported")
        elif data is None:
            self._refuse(option, Reply.ERR_TOO_BIG, f"the option is longer than {_MAX_OPTION}")
        else:
            try:
                return handler(option, data)
            except _RefusedError as refused:
                self._refuse(option, refused.reply, refused.text)
        return None

    # Single options

    def _export_name(self, data: bytes | None) -> Agreement:
        """The old way to choose: there is no way to refuse but to hang up."""
        name = parse_string(data or b"", "the export name")
        if self._tls_mode is TlsMode.REQUIRED and not self._encrypted:
            raise ProtocolError("the client does not use TLS, which is required")
        export = self._exports.find(name) if data is not None else None
        if export is None or not self._on_choice(export):
            raise ProtocolError(f"the client wants an unknown export '{name}'")
        reply = handshake.EXPORT_REPLY.pack(
            export.node.size, export.flags(structured=self._structured)
        )
        self._send(reply if self._no_zeroes else reply + bytes(handshake.EXPORT_REPLY_ZEROES))
        return self._agree(export)

    def _list(self, option: int, data: bytes) -> None:
        _require_empty(data)
        for export in self._exports.all():
            self._answer(
                option, Reply.SERVER, handshake.pack_server(export.name, export.description)
            )
        self._answer(option, Reply.ACK)

    def _start_tls(self, option: int, data: bytes) -> None:
        _require_empty(data)
        if self._encrypted:
            raise _RefusedError(Reply.ERR_INVALID, "TLS has been started already")
        if self._tls is None or self._tls_mode is TlsMode.OFF:
            raise _RefusedError(Reply.ERR_POLICY, "this server does not use TLS")
        self._answer(option, Reply.ACK)
        stream = TlsStream(self._plain.sock, self._tls, server_side=True)
        stream.handshake(self._deadline_ns)
        self.stream = stream
        self._encrypted = True
        # Nothing said in the clear counts (specification, NBD_OPT_STARTTLS).
        self._structured = False
        self._contexts, self._contexts_of = (), None

    def _info(self, option: int, data: bytes) -> Agreement | None:
        request = _parsed(handshake.parse_info_request, data)
        export = self._find(request.export)
        if option == Option.GO and not self._on_choice(export):
            raise _unknown(request.export)
        size, flags = export.node.size, export.flags(structured=self._structured)
        self._answer(option, Reply.INFO, handshake.pack_info_export(size, flags))
        if Info.NAME in request.infos:
            self._answer(option, Reply.INFO, handshake.pack_info_text(Info.NAME, export.name))
        if Info.DESCRIPTION in request.infos and export.description:
            text = handshake.pack_info_text(Info.DESCRIPTION, export.description)
            self._answer(option, Reply.INFO, text)
        if Info.BLOCK_SIZE in request.infos:
            sizes = handshake.pack_info_block_size(export.block_sizes)
            self._answer(option, Reply.INFO, sizes)
        self._answer(option, Reply.ACK)
        return self._agree(export) if option == Option.GO else None

    def _structured_reply(self, option: int, data: bytes) -> None:
        _require_empty(data)
        self._structured = True
        self._answer(option, Reply.ACK)

    def _list_contexts(self, option: int, data: bytes) -> None:
        request = _parsed(handshake.parse_meta_request, data)
        _require_structured(self._structured)
        for name in self._find(request.export).list_contexts(request.queries):
            self._answer(option, Reply.META_CONTEXT, handshake.pack_meta_context(0, name))
        self._answer(option, Reply.ACK)

    def _set_contexts(self, option: int, data: bytes) -> None:
        self._contexts, self._contexts_of = (), None
        request = _parsed(handshake.parse_meta_request, data)
        _require_structured(self._structured)
        export = self._find(request.export)
        self._contexts = tuple(export.select_contexts(request.queries))
        self._contexts_of = export
        for context in self._contexts:
            described = handshake.pack_meta_context(context.id, context.name)
            self._answer(option, Reply.META_CONTEXT, described)
        self._answer(option, Reply.ACK)

    # Pieces

    def _find(self, name: str) -> Export:
        export = self._exports.find(name)
        if export is None:
            raise _unknown(name)
        return export

    def _agree(self, export: Export) -> Agreement:
        contexts = self._contexts if self._contexts_of is export else ()
        return Agreement(self.stream, export, self._structured, contexts)

    def _receive_data(self, header: handshake.OptionHeader) -> bytes | None:
        """Receive an option's data, or skip it and return None when it is too long."""
        if header.length <= _MAX_OPTION:
            return self._receive(header.length)
        if header.length > _MAX_SKIPPED:
            raise ProtocolError(f"the client sends an option of {header.length} bytes")
        for position in range(0, header.length, _MAX_OPTION):
            self._receive(min(_MAX_OPTION, header.length - position))
        return None

    def _receive(self, length: int) -> bytes:
        return receive_before(self.stream, length, self._deadline_ns)

    def _send(self, data: bytes) -> None:
        left_ns = max(1, self._deadline_ns - time.monotonic_ns())
        self.stream.set_timeout(left_ns / 1e9)
        self.stream.sendall(data)

    def _answer(self, option: int, reply: int, data: bytes = b"") -> None:
        self._send(handshake.pack_option_reply(option, reply, data))

    def _refuse(self, option: int, reply: int, text: str) -> None:
        self._answer(option, reply, text.encode()[: 4 * KiB])


class _RefusedError(Exception):
    """An option is answered with an error; the handshake goes on."""

    def __init__(self, reply: int, text: str) -> None:
        super().__init__(text)
        self.reply = reply
        self.text = text


def _unknown(name: str) -> _RefusedError:
    return _RefusedError(Reply.ERR_UNKNOWN, f"export '{name}' not present")


def _parsed(parse: Callable[[bytes], Parsed], data: bytes) -> Parsed:
    try:
        return parse(data)
    except ProtocolError as error:
        raise _RefusedError(Reply.ERR_INVALID, str(error)) from error


def _require_empty(data: bytes) -> None:
    if data:
        raise _RefusedError(Reply.ERR_INVALID, "the option takes no data")


def _require_structured(structured: bool) -> None:
    if not structured:
        raise _RefusedError(Reply.ERR_INVALID, "structured replies have not been negotiated")
