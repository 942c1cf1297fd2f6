"""The client's side of the handshake: from connecting to an export that can be used."""

import contextlib
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mirrorgui.errors import ImageRefused
from mirrorgui.nbd import handshake, transport
from mirrorgui.nbd.constants import (
    BASE_ALLOCATION,
    MAX_STRING,
    ClientFlag,
    HandshakeFlag,
    Info,
    Option,
    Reply,
)
from mirrorgui.nbd.handshake import ExportInfo
from mirrorgui.nbd.tls import TlsCredentials, TlsStream
from mirrorgui.nbd.transport import PlainStream, Stream, receive_before
from mirrorgui.nbd.uri import NbdAddress, format_uri
from mirrorgui.nbd.wire import ProtocolError, parse_string
from mirrorgui.units import KiB

_MAX_REPLY = 64 * KiB  # every reply that is known holds two strings at most
_MAX_REPLIES = 100_000  # exports in a list; more is a server that does not end

_REASONS: dict[int, str] = {
    Reply.ERR_UNSUP: "the server does not know the option",
    Reply.ERR_POLICY: "the server's policy forbids it",
    Reply.ERR_INVALID: "the server calls the option invalid",
    Reply.ERR_PLATFORM: "the server's platform does not support it",
    Reply.ERR_TLS_REQD: "the server requires TLS (nbds:// and certificates)",
    Reply.ERR_UNKNOWN: "the server has no such export",
    Reply.ERR_SHUTDOWN: "the server is shutting down",
    Reply.ERR_BLOCK_SIZE_REQD: "the server requires block sizes to be negotiated",
    Reply.ERR_TOO_BIG: "the server calls the option too big",
    Reply.ERR_EXT_HEADER_REQD: "the server requires extended headers",
}


@dataclass(frozen=True, slots=True)
class Opened:
    """An export, ready for requests.

    Attributes:
        stream: the connection.
        info: what the server told of the export.
        structured: replies are structured.
        contexts: name of each metadata context that the server tells of -> its id in replies.
    """

    stream: Stream
    info: ExportInfo
    structured: bool
    contexts: Mapping[str, int]


def open_export(
    address: NbdAddress,
    *,
    tls: TlsCredentials | None = None,
    timeout_s: float = 10.0,
    field: str = "uri",
    contexts: tuple[str, ...] = (BASE_ALLOCATION,),
) -> Opened:
    """Connect and open the address's export.

    Args:
        address: ``tls`` in it demands encryption. Without, it is used when ``tls`` has
            certificates and the server is willing.
        tls: certificates; None takes those of the address, or the system's authorities.
        timeout_s: for everything together.
        field: name of the option that gave the address, for refusals.
        contexts: names of the metadata contexts to ask for; a server need not have them.

    Raises:
        ImageRefused: it cannot be opened; the reason says why. Nothing stays open.
        InvalidInput: certificates are missing or unusable.
    """
    with _opening(address, tls, timeout_s, field) as opening:
        return opening.choose(contexts)


def list_exports(
    address: NbdAddress,
    *,
    tls: TlsCredentials | None = None,
    timeout_s: float = 10.0,
    field: str = "uri",
) -> list[tuple[str, str]]:
    """Ask a server for its exports.

    Returns:
        Names and descriptions, which may be empty.

    Raises:
        ImageRefused: as for ``open_export``, or the server does not tell.
    """
    with _opening(address, tls, timeout_s, field) as opening:
        found = opening.exports()
        opening.leave()
        return found


class _RefusalError(Exception):
    """The server answered an option with an error; it can be asked something else."""

    def __init__(self, reply: int, text: str) -> None:
        super().__init__(text)
        self.reply = reply


@contextlib.contextmanager
def _opening(
    address: NbdAddress, tls: TlsCredentials | None, timeout_s: float, field: str
) -> Iterator["_Opening"]:
    """Connect and greet; whatever fails inside closes the connection and becomes a refusal."""
    opening = None
    try:
        opening = _Opening(address, timeout_s)
        opening.begin(tls)
        yield opening
    except BaseException as error:
        if opening is not None:
            opening.give_up(polite=isinstance(error, _RefusalError))
        reason = _reason(error)
        if reason is None:
            raise
        raise ImageRefused(field, format_uri(address), reason) from error


def _reason(error: BaseException) -> str | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or error}"
    if isinstance(error, TimeoutError):
        return "the server does not answer in time"
    if isinstance(error, OSError):
        return f"cannot connect: {error.strerror or error}"
    if isinstance(error, EOFError):
        return "the server closed the connection during the handshake"
    return str(error) if isinstance(error, (ProtocolError, _RefusalError)) else None


class _Opening:
    """One handshake.

    Raises:
        _RefusalError: from every method that asks: the server answered with an error.
        ProtocolError: the server broke the protocol.
        OSError: the connection failed or took too long.
        EOFError: the server closed it.
    """

    def __init__(self, address: NbdAddress, timeout_s: float) -> None:
        self._address = address
        self._deadline_ns = time.monotonic_ns() + int(timeout_s * 1e9)
        self._plain = PlainStream(transport.connect(address, timeout_s))
        self._stream: Stream = self._plain
        self._fixed = self._no_zeroes = False

    def begin(self, tls: TlsCredentials | None) -> None:
        """Exchange greetings, and start TLS when it is wanted."""
        greeting = handshake.parse_greeting(self._receive(handshake.GREETING.size))
        self._fixed = bool(greeting & HandshakeFlag.FIXED_NEWSTYLE)
        self._no_zeroes = bool(greeting & HandshakeFlag.NO_ZEROES)
        flags = ClientFlag.FIXED_NEWSTYLE if self._fixed else 0
        flags |= ClientFlag.NO_ZEROES if self._no_zeroes else 0
        self._send(handshake.CLIENT_FLAGS.pack(flags))
        if self._address.tls and not self._fixed:
            raise ProtocolError("the server is too old for TLS")
        if self._address.tls or (tls is not None and self._fixed):
            self._start_tls(tls or _credentials(self._address))

    def choose(self, wanted: tuple[str, ...]) -> Opened:
        """Open the export; transmission begins."""
        structured = False
        contexts: Mapping[str, int] = {}
        if self._fixed:
            structured = self._is_granted(Option.STRUCTURED_REPLY)
            if structured:
                contexts = self._select_contexts(wanted)
            info = self._go()
            if info is not None:
                return Opened(self._stream, info, structured, contexts)
        info = self._export_name()
        return Opened(self._stream, info, structured, contexts)

    def exports(self) -> list[tuple[str, str]]:
        """Ask for the list of exports."""
        if not self._fixed:
            raise ProtocolError("the server is too old to tell its exports")
        return [
            handshake.parse_server(data)
            for reply, data in self._ask(Option.LIST)
            if reply == Reply.SERVER
        ]

    def leave(self) -> None:
        """Say goodbye and close the connection."""
        self.give_up(polite=True)

    def give_up(self, *, polite: bool) -> None:
        """Close the connection, after a goodbye if the server listens for one. Never raises."""
        if polite and self._fixed:
            with contextlib.suppress(OSError):
                self._send(handshake.pack_option(Option.ABORT))
        self._stream.close()

    # Single options

    def _start_tls(self, credentials: TlsCredentials) -> None:
        context = credentials.client_context()
        try:
            self._ask(Option.STARTTLS)
        except _RefusalError:
            if self._address.tls:
                raise
            return  # only wished for: goes on in the clear, as the URI's scheme allows
        hostname = credentials.hostname or self._address.tls_hostname
        if not hostname and not self._address.is_unix:
            hostname = self._address.host
        stream = TlsStream(self._plain.sock, context, server_side=False, hostname=hostname)
        self._stream = stream
        stream.handshake(self._deadline_ns)

    def _is_granted(self, option: int) -> bool:
        try:
            self._ask(option)
        except _RefusalError as refusal:
            if refusal.reply == Reply.ERR_TLS_REQD:
                raise
            return False
        return True

    def _select_contexts(self, wanted: tuple[str, ...]) -> Mapping[str, int]:
        request = handshake.MetaRequest(self._address.export, wanted)
        try:
            replies = self._ask(Option.SET_META_CONTEXT, handshake.pack_meta_request(request))
        except _RefusalError:
            return {}  # GO tells what is really wrong, if anything is
        found: dict[str, int] = {}
        for reply, data in replies:
            if reply == Reply.META_CONTEXT:
                context_id, name = handshake.parse_meta_context(data)
                if name in wanted:
                    found.setdefault(name, context_id)
        return found

    def _go(self) -> ExportInfo | None:
        """Open the export, or return None when the server knows the old way only."""
        request = handshake.InfoRequest(self._address.export, (Info.BLOCK_SIZE,))
        try:
            replies = self._ask(Option.GO, handshake.pack_info_request(request))
        except _RefusalError as refusal:
            if refusal.reply == Reply.ERR_UNSUP:
                return None
            raise
        return handshake.parse_infos(data for reply, data in replies if reply == Reply.INFO)

    def _export_name(self) -> ExportInfo:
        name = self._address.export.encode()
        self._send(handshake.pack_option(Option.EXPORT_NAME, name))
        try:
            data = self._receive(handshake.EXPORT_REPLY.size)
        except EOFError as error:
            raise ProtocolError("the server has no such export, or wants TLS for it") from error
        if not self._no_zeroes:
            self._receive(handshake.EXPORT_REPLY_ZEROES)
        size, flags = handshake.EXPORT_REPLY.unpack(data)
        return ExportInfo(size, flags)

    # Pieces

    def _ask(self, option: int, data: bytes = b"") -> list[tuple[int, bytes]]:
        """Send an option and collect the replies before its ACK."""
        self._send(handshake.pack_option(option, data))
        replies: list[tuple[int, bytes]] = []
        while len(replies) < _MAX_REPLIES:
            header = handshake.parse_option_reply_header(
                self._receive(handshake.OPTION_REPLY_HEADER.size), option
            )
            if header.length > _MAX_REPLY:
                raise ProtocolError(f"the server sends an option reply of {header.length} bytes")
            payload = self._receive(header.length)
            if header.is_error:
                raise _RefusalError(header.reply, _refusal_text(header.reply, payload))
            if header.reply == Reply.ACK:
                return replies
            replies.append((header.reply, payload))
        raise ProtocolError("the server does not end its replies")

    def _receive(self, length: int) -> bytes:
        return receive_before(self._stream, length, self._deadline_ns)

    def _send(self, data: bytes) -> None:
        left_ns = max(1_000_000, self._deadline_ns - time.monotonic_ns())
        self._stream.set_timeout(left_ns / 1e9)
        self._stream.sendall(data)


def _credentials(address: NbdAddress) -> TlsCredentials:
    directory = Path(address.tls_certificates) if address.tls_certificates else None
    return TlsCredentials(directory, address.tls_verify_peer, address.tls_hostname)


def _refusal_text(reply: int, payload: bytes) -> str:
    reason = _REASONS.get(reply, f"the server refuses with {handshake.reply_name(reply)}")
    try:
        message = parse_string(payload[:MAX_STRING], "the message")
    except ProtocolError:
        message = ""
    return f"{reason}: {message}" if message else reason
