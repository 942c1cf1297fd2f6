"""Sockets for NBD: connecting, listening, and moving whole messages, the same for both ends."""

import contextlib
import errno
import ipaddress
import os
import socket
import stat
import struct
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from mirrorgui.errors import InvalidInput
from mirrorgui.nbd.uri import NbdAddress
from mirrorgui.nbd.wire import Buffer
from mirrorgui.units import MiB

_KEEPALIVE_IDLE_S = 30
_KEEPALIVE_INTERVAL_S = 10
_KEEPALIVE_PROBES = 3
_UNACKNOWLEDGED_MS = 60_000  # as long as the keepalive takes to find a silent peer dead
_SOCKET_BUFFER = 1 * MiB  # holds several 256 KiB requests; the system may grant less
_BACKLOG = 128


class Stream(Protocol):
    """A connected byte stream. One thread may receive while others send, one at a time.

    Attributes:
        sock: the socket below.
    """

    sock: socket.socket

    def recv_into(self, buffer: memoryview, nbytes: int = 0, flags: int = 0, /) -> int:
        """Receive at least one byte; 0 means that the other side has ended the stream."""

    def sendall(self, data: Buffer, /) -> None:
        """Send everything."""

    def send_parts(self, parts: Sequence[Buffer]) -> None:
        """Send several buffers as if they were one."""

    def set_timeout(self, seconds: float | None) -> None:
        """Let receiving and sending raise ``TimeoutError`` after that time; None waits forever."""

    def abort(self) -> None:
        """End the stream at once; calls that block in other threads return. Never raises."""

    def close(self) -> None:
        """End the stream in good order and release it. Never raises. No other call may run."""


class PlainStream:
    """A stream over a socket without TLS. The socket's own methods do the work, without a detour.

    Args:
        sock: connected; owned by the stream from now on.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.recv_into = sock.recv_into
        self.sendall = sock.sendall
        self.set_timeout = sock.settimeout

    def send_parts(self, parts: Sequence[Buffer]) -> None:
        """Send several buffers as if they were one."""
        sent = self.sock.sendmsg(parts)
        for part in parts:
            if sent >= len(part):
                sent -= len(part)
            else:
                self.sock.sendall(memoryview(part)[sent:])
                sent = 0

    def abort(self) -> None:
        """End the stream at once; calls that block in other threads return."""
        shut_down(self.sock)

    def close(self) -> None:
        """Release the socket."""
        shut_down(self.sock)
        self.sock.close()


def shut_down(sock: socket.socket) -> None:
    """Shut both directions down, whatever state the socket is in."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def receive_exactly(stream: Stream, view: memoryview) -> None:
    """Fill ``view``.

    Raises:
        EOFError: the stream ended before.
        OSError: from the socket.
    """
    position = 0
    while position < len(view):
        count = stream.recv_into(view[position:], 0, socket.MSG_WAITALL)
        if not count:
            raise EOFError("the other side closed the connection")
        position += count


def receive_before(stream: Stream, length: int, deadline_ns: int) -> bytes:
    """Receive ``length`` bytes before a moment of ``time.monotonic_ns``, however they dribble in.

    Raises:
        EOFError: the stream ended before.
        OSError: from the socket; ``TimeoutError`` when it took too long.
    """
    data = bytearray(length)
    view = memoryview(data)
    while view:
        left_ns = deadline_ns - time.monotonic_ns()
        if left_ns <= 0:
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        stream.set_timeout(left_ns / 1e9)
        count = stream.recv_into(view)
        if not count:
            raise EOFError("the other side closed the connection")
        view = view[count:]
    return bytes(data)


def connect(address: NbdAddress, timeout_s: float) -> socket.socket:
    """Connect to a server.

    Raises:
        OSError: nobody listens there, or not in time.
    """
    if address.is_unix:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # A socket with a timeout does not wait for a place in the server's queue; this does.
            limit_waiting(sock, send_s=timeout_s)
            sock.connect(address.socket_path)
        except BlockingIOError as error:
            sock.close()
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from error
        except BaseException:
            sock.close()
            raise
    else:
        sock = socket.create_connection((address.host, address.port), timeout_s)
    tune(sock)
    return sock


def tune(sock: socket.socket) -> None:
    """Set what every NBD connection wants: no delays, room for large requests, dead peers found."""
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        if sock.family == socket.AF_UNIX or option == socket.SO_SNDBUF:
            sock.setsockopt(socket.SOL_SOCKET, option, _SOCKET_BUFFER)
    if sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_INTERVAL_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEPALIVE_PROBES)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS)


def limit_waiting(sock: socket.socket, *, send_s: float = 0, receive_s: float = 0) -> None:
    """Let the kernel end calls that wait too long with EAGAIN; 0 waits forever.

    Other than ``settimeout`` it costs no system call each time.
    """
    sock.settimeout(None)
    for option, seconds in ((socket.SO_SNDTIMEO, send_s), (socket.SO_RCVTIMEO, receive_s)):
        whole = int(seconds)
        value = struct.pack("ll", whole, int((seconds - whole) * 1e6))
        sock.setsockopt(socket.SOL_SOCKET, option, value)


def listen(address: NbdAddress, *, allow_remote: bool) -> list[socket.socket]:
    """Open listening sockets: one for a Unix path, one for each address of a host name.

    A socket file that nobody serves any more is replaced; one that is served is refused.

    Raises:
        InvalidInput: it cannot be listened on; the reason says why. Nothing stays open.
    """
    try:
        if address.is_unix:
            return [_listen_unix(address.socket_path)]
        return _listen_tcp(address, allow_remote)
    except OSError as error:
        raise InvalidInput("export address", address.place, error.strerror or str(error)) from error


def _listen_unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            sock.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or path.startswith("\0"):
                raise
            _remove_stale(path)
            sock.bind(path)
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _remove_stale(path: str) -> None:
    if not stat.S_ISSOCK(Path(path).stat().st_mode):
        raise InvalidInput("export address", path, "a file that is not a socket is in its place")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()
            return
    raise InvalidInput("export address", path, "another server listens there")


def _listen_tcp(address: NbdAddress, allow_remote: bool) -> list[socket.socket]:
    found = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    if not allow_remote:
        for _, _, _, _, where in found:
            if not ipaddress.ip_address(str(where[0]).partition("%")[0]).is_loopback:
                raise InvalidInput(
                    "export address",
                    address.place,
                    "other machines could reach it; listening there must be allowed explicitly",
                )
    listening: list[socket.socket] = []
    try:
        for family, _, _, _, where in found:
            # All of a name's addresses share the port that the first one was given.
            port = listening[0].getsockname()[1] if listening else address.port
            with contextlib.suppress(_NoSuchAddressError):
                listening.append(_listen_at(family, (where[0], port, *where[2:])))
    except BaseException:
        for sock in listening:
            sock.close()
        raise
    if not listening:
        raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    return listening


class _NoSuchAddressError(OSError):
    """A name resolves to an address that this machine does not have, such as ::1 without IPv6."""


def _listen_at(family: int, where: tuple[object, ...]) -> socket.socket:
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise _NoSuchAddressError(*error.args) from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(where)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            raise _NoSuchAddressError(*error.args) from error
        raise
    return sock


def peer_name(sock: socket.socket) -> str:
    """Name the other side for people: ``10.0.0.5:51234``, or the process behind a Unix socket."""
    if sock.family != socket.AF_UNIX:
        try:
            host, port = sock.getpeername()[:2]
        except OSError:  # it has already gone
            return "unknown"
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, _ = struct.unpack("3i", credentials)
    try:
        name = Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        name = f"uid {uid}"
    return f"{name} (pid {pid})"
