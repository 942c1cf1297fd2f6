"""An NBD server: exports nodes to clients on a Unix socket or over TCP.

Every connection has a thread of its own, from the handshake to the last reply, so neither an event
loop nor a window that paints delays a guest.
"""

import contextlib
import logging
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mirrorgui.errors import InvalidInput
from mirrorgui.nbd import transport
from mirrorgui.nbd.constants import MAX_STRING
from mirrorgui.nbd.export import Export
from mirrorgui.nbd.negotiation import Agreement, Negotiation, TlsMode
from mirrorgui.nbd.statistics import ConnectionStatistics, Counters
from mirrorgui.nbd.tls import TlsCredentials
from mirrorgui.nbd.transmission import Transmission
from mirrorgui.nbd.transport import PlainStream, Stream
from mirrorgui.nbd.uri import NbdAddress, format_uri
from mirrorgui.nbd.wire import ProtocolError

MAX_CONNECTIONS = 128
"""Each costs a thread and about 1 MiB, and up to three times the largest request while one is
served; nbdcopy and qemu open 4 to 16 at a time."""

HANDSHAKE_TIMEOUT_S = 10.0
"""As QEMU's: a client that has not chosen an export by then holds a place that others want."""

SEND_TIMEOUT_S = 30.0
"""A client that takes nothing of its replies for so long has lost its connection."""

HELPERS = 16
"""Threads of a connection for requests that wait, started when they are needed: the queue depth
that a device gets to see where ``BlockNode.prefetch`` does not help."""

_RETRY_ACCEPT_S = 0.2  # when the process has no descriptor left, until it looks again

_log = logging.getLogger(__name__)


class NbdServer:
    """Serves exports at one address.

    Args:
        address: where to listen; its export name is not used. Port 0 takes a free one.
        allow_remote: listen where other machines can reach it; refused otherwise.
        tls: certificates; None for a server without TLS.
        tls_mode: ``ON`` lets the client choose, ``REQUIRED`` insists.
        max_connections: more are closed as soon as they come.
        handshake_timeout_s: for the whole handshake.
        send_timeout_s: without any progress in sending a reply.
        helpers: threads of a connection for requests that wait for a device.

    Attributes:
        accepted: connections so far, with the refused ones.
        refused: connections that were closed because there were ``max_connections``.

    Raises:
        InvalidInput: TLS is wanted without certificates, or these cannot be used.

    Concurrency: every method may be called from any thread.
    """

    def __init__(
        self,
        address: NbdAddress,
        *,
        allow_remote: bool = False,
        tls: TlsCredentials | None = None,
        tls_mode: TlsMode | None = None,
        max_connections: int = MAX_CONNECTIONS,
        handshake_timeout_s: float = HANDSHAKE_TIMEOUT_S,
        send_timeout_s: float = SEND_TIMEOUT_S,
        helpers: int = HELPERS,
    ) -> None:
        self._address = replace(address, export="")
        self._allow_remote = allow_remote
        self._tls_mode = tls_mode or (TlsMode.OFF if tls is None else TlsMode.REQUIRED)
        self._tls: ssl.SSLContext | None = None
        if self._tls_mode is not TlsMode.OFF:
            if tls is None:
                raise InvalidInput("tls", self._tls_mode.value, "certificates are needed")
            self._tls = tls.server_context()
        self.max_connections = max_connections
        self.handshake_timeout_s = handshake_timeout_s
        self.send_timeout_s = send_timeout_s
        self.helpers = helpers
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._exports: dict[str, Export] = {}
        self._default: str | None = None
        self._connections: dict[int, _Connection] = {}
        self.accepted = self.refused = 0
        self._listening: list[socket.socket] = []
        self._listener: threading.Thread | None = None
        self._wake: socket.socket | None = None
        self._inode = 0
        self._stopping = False

    # Exports

    def add_export(self, export: Export, *, default: bool = False) -> None:
        """Offer an export from now on.

        Args:
            export: what to offer.
            default: also offer it to clients that ask for no name.

        Raises:
            InvalidInput: the name is taken or not a name.
        """
        if "\0" in export.name or len(export.name.encode()) > MAX_STRING:
            raise InvalidInput("export", export.name, f"no NUL, at most {MAX_STRING} bytes")
        with self._lock:
            if export.name in self._exports:
                raise InvalidInput("export", export.name, "the name is taken")
            self._exports[export.name] = export
            if default:
                self._default = export.name

    def remove_export(self, name: str, *, force: bool = False, timeout_s: float = 5.0) -> bool:
        """Offer an export no longer.

        Args:
            name: which one.
            force: disconnect its clients, after the requests that are being served.
            timeout_s: for these.

        Returns:
            Whether all of its clients have left in time; ``wait_left`` waits longer.

        Raises:
            InvalidInput: there is no such export, or it has clients and ``force`` is not set; it
                stays.
        """
        with self._changed:
            export = self._exports.get(name)
            if export is None:
                raise InvalidInput("export", name, "there is no such export")
            users = [one for one in self._connections.values() if one.export is export]
            if users and not force:
                raise InvalidInput("export", name, "it is still in use by clients")
            del self._exports[name]
            if self._default == name:
                self._default = None
            for connection in users:
                connection.stop()
        return self.wait_left(export, timeout_s)

    def wait_left(self, export: Export, timeout_s: float) -> bool:
        """Wait until no client uses an export, at most so many seconds; say whether it is so."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._is_used(export), timeout_s)

    def is_used(self, export: Export) -> bool:
        """Say whether a client uses an export."""
        with self._lock:
            return self._is_used(export)

    def _is_used(self, export: Export) -> bool:
        return any(one.export is export for one in self._connections.values())

    def find(self, name: str) -> Export | None:
        """Return the export of that name.

        The empty name, where no export bears it, means the default one, or the only one.
        """
        with self._lock:
            if name in self._exports or name:
                return self._exports.get(name)
            if self._default is not None:
                return self._exports[self._default]
            return next(iter(self._exports.values())) if len(self._exports) == 1 else None

    def all(self) -> Sequence[Export]:
        """Return every export, in the order of their names."""
        with self._lock:
            return [export for _, export in sorted(self._exports.items())]

    # Life

    def start(self) -> None:
        """Listen and serve, until ``stop``. Nothing happens while it serves.

        Raises:
            InvalidInput: the address cannot be listened on; nothing has been started.
        """
        if self._listener is not None:
            return
        self._listening = transport.listen(self._address, allow_remote=self._allow_remote)
        if self._address.is_unix:
            if not self._address.socket_path.startswith("\0"):
                self._inode = Path(self._address.socket_path).stat().st_ino
        else:
            self._address = replace(self._address, port=self._listening[0].getsockname()[1])
            if self._allow_remote:
                _log.warning(
                    "export address=%s: other machines may reach it%s",
                    self._address.place,
                    "" if self._tls_mode is TlsMode.REQUIRED else ", without encryption",
                )
        for sock in self._listening:
            sock.setblocking(False)
        self._wake, woken = socket.socketpair()
        self._stopping = False
        self._listener = threading.Thread(
            target=self._accept, args=(woken,), name="nbd-accept", daemon=True
        )
        self._listener.start()
        _log.info("export started address=%s tls=%s", self._address.place, self._tls_mode.value)

    def stop(self, timeout_s: float = 10.0) -> bool:
        """Stop listening, let requests in service finish, end the connections.

        Args:
            timeout_s: for what is in service; after that the connections are cut.

        Returns:
            Whether everything has ended. If not, threads still wait for a node that hangs; they
            end when it lets them go. Idempotent.
        """
        if self._listener is None or self._wake is None:
            return True
        self._stopping = True
        self._wake.close()
        self._listener.join()
        self._listener = self._wake = None
        self._remove_socket_file()
        with self._changed:
            for connection in self._connections.values():
                connection.stop()
            self._changed.wait_for(lambda: not self._connections, timeout_s)
            for connection in self._connections.values():
                connection.abort()
            self._changed.wait_for(lambda: not self._connections, 0.5)
            ended = not self._connections
        _log.info("export stopped address=%s", self._address.place)
        return ended

    @property
    def address(self) -> NbdAddress:
        """Where the server listens; after ``start`` with the port it has been given."""
        return self._address

    def uri(self, export: str = "") -> str:
        """Return the URI that clients open an export with, their own certificates apart."""
        return format_uri(
            NbdAddress(
                socket_path=self._address.socket_path,
                host=self._address.host,
                port=self._address.port,
                export=export,
                tls=self._tls_mode is TlsMode.REQUIRED,
            )
        )

    def connections(self) -> tuple[ConnectionStatistics, ...]:
        """Look at every connection, the oldest first."""
        with self._lock:
            connections = list(self._connections.values())
        return tuple(connection.look() for connection in connections)

    # Accepting

    def _accept(self, woken: socket.socket) -> None:
        with selectors.DefaultSelector() as selector, woken:
            selector.register(woken, selectors.EVENT_READ)
            for sock in self._listening:
                selector.register(sock, selectors.EVENT_READ)
            while not self._stopping:
                for key, _ in selector.select():
                    if key.fileobj is not woken:
                        self._accept_one(key.fileobj, woken)
        for sock in self._listening:
            sock.close()

    def _accept_one(self, listening: object, woken: socket.socket) -> None:
        assert isinstance(listening, socket.socket)
        try:
            sock, _ = listening.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # it has gone again
        except OSError as error:
            _log.warning("export cannot accept a connection reason=%s", error)
            woken.settimeout(_RETRY_ACCEPT_S)  # out of descriptors: do not spin
            with contextlib.suppress(TimeoutError):
                woken.recv(1)
            return
        number = self.accepted + 1  # counted by this thread only
        with self._lock:
            surplus = len(self._connections) >= self.max_connections
        if surplus:
            sock.close()
            self.accepted = number
            self.refused += 1
            if self.refused == 1:  # a flood of clients must not flood the log
                _log.warning("export refuses connections limit=%d", self.max_connections)
            return
        connection = _Connection(self, number, sock)
        with self._lock:
            self.accepted = number
            self._connections[number] = connection
        try:
            connection.start()
        except RuntimeError as error:  # no more threads
            _log.warning("export cannot serve a connection reason=%s", error)
            sock.close()
            self._ended(number)

    def _choose(self, connection: "_Connection", export: Export) -> bool:
        """Let a connection use an export, which cannot be removed unnoticed from then on."""
        with self._lock:
            if self._exports.get(export.name) is not export:
                return False
            connection.export = export
            return True

    def _ended(self, number: int) -> None:
        with self._changed:
            del self._connections[number]
            self._changed.notify_all()

    def _remove_socket_file(self) -> None:
        """Remove the socket's file, unless somebody else has put another one in its place."""
        path = Path(self._address.socket_path)
        if self._inode:
            with contextlib.suppress(OSError):
                if path.stat().st_ino == self._inode:
                    path.unlink()
            self._inode = 0

    def _negotiate(self, connection: "_Connection", stream: PlainStream) -> Negotiation:
        return Negotiation(
            stream,
            self,
            on_choice=lambda export: self._choose(connection, export),
            tls=self._tls,
            tls_mode=self._tls_mode,
            deadline_ns=time.monotonic_ns() + int(self.handshake_timeout_s * 1e9),
        )


class _Connection:
    """One client, from the accept to the end."""

    def __init__(self, server: NbdServer, number: int, sock: socket.socket) -> None:
        self._server = server
        self._number = number
        self._sock = sock
        self.peer = transport.peer_name(sock)
        self.export: Export | None = None
        self._encrypted = False
        self._counters = Counters()
        self._transmission: Transmission | None = None
        self._stopped = False

    def start(self) -> None:
        """Begin to serve, on a thread of its own."""
        name = f"nbd-client-{self._number}"
        threading.Thread(target=self._serve, name=name, daemon=True).start()

    def stop(self) -> None:
        """Take no more requests; those being served are finished."""
        self._stopped = True
        if self._transmission is not None:
            self._transmission.stop()
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RD)  # wakes the thread, which may still send

    def abort(self) -> None:
        """Cut the connection."""
        transport.shut_down(self._sock)

    def look(self) -> ConnectionStatistics:
        """Take a snapshot."""
        name = None if self.export is None else self.export.name
        return self._counters.look(self._number, self.peer, name, self._encrypted)

    def _serve(self) -> None:
        plain = PlainStream(self._sock)
        stream: Stream = plain
        try:
            transport.tune(self._sock)
            negotiation = self._server._negotiate(self, plain)
            try:
                agreement = negotiation.run()
            finally:
                stream = negotiation.stream
            if agreement is not None:
                self._transmit(agreement)
        except (ProtocolError, EOFError, OSError) as error:
            _log.info("client lost id=%d peer=%s reason=%s", self._number, self.peer, error)
        finally:
            stream.close()
            self._server._ended(self._number)

    def _transmit(self, agreement: Agreement) -> None:
        transport.limit_waiting(self._sock, send_s=self._server.send_timeout_s)
        self._encrypted = not isinstance(agreement.stream, PlainStream)
        self._transmission = Transmission(
            agreement,
            self._counters,
            helpers=self._server.helpers,
            name=f"nbd-client-{self._number}",
        )
        if self._stopped:
            return
        name, number = agreement.export.name, self._number
        _log.info("client opened export=%s id=%d peer=%s", name, number, self.peer)
        self._transmission.run()
        _log.info("client left export=%s id=%d peer=%s", name, number, self.peer)
