"""TLS for NBD: certificates laid out as QEMU's ``tls-creds-x509``, and an encrypted stream."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mirrorgui.errors import InvalidInput
from mirrorgui.nbd.transport import shut_down
from mirrorgui.nbd.wire import Buffer
from mirrorgui.units import KiB

_RECEIVE = 128 * KiB
_SEND_STEP = 128 * KiB  # encrypted at a time: bounds the memory a large reply takes twice


@dataclass(frozen=True, slots=True)
class TlsCredentials:
    """Certificates in a directory, under QEMU's names.

    ``ca-cert.pem`` is whom to trust, ``ca-crl.pem`` whom no longer (optional). A server needs
    ``server-cert.pem`` and ``server-key.pem``; a client may have ``client-cert.pem`` and
    ``client-key.pem``.

    Attributes:
        directory: where they are; None trusts the system's authorities (clients only).
        verify_peer: the other side must have a certificate of the authority.
        hostname: name that the server's certificate must carry; empty takes the host's (clients).
    """

    directory: Path | None = None
    verify_peer: bool = True
    hostname: str = ""

    def server_context(self) -> ssl.SSLContext:
        """Load what a server needs.

        Raises:
            InvalidInput: with field ``tls-certificates``; a file is missing or unusable.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._load(context, "server", required=True)
        if self.verify_peer:
            self._load_authority(context, required=True)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def client_context(self) -> ssl.SSLContext:
        """Load what a client needs.

        Raises:
            InvalidInput: with field ``tls-certificates``; a file is missing or unusable.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        if self.directory is not None:
            self._load(context, "client", required=False)
        if not self.verify_peer:
            context.verify_mode = ssl.CERT_NONE
        elif self.directory is None or not self._load_authority(context, required=False):
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        return context

    def _path(self, name: str) -> Path:
        if self.directory is None:
            raise InvalidInput("tls-certificates", "", "a directory of certificates is needed")
        return self.directory / name

    def _load(self, context: ssl.SSLContext, role: str, *, required: bool) -> None:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        certificate, key = self._path(f"{role}-cert.pem"), self._path(f"{role}-key.pem")
        if not required and not certificate.exists() and not key.exists():
            return
        for path in (certificate, key):
            if not path.is_file():
                raise InvalidInput("tls-certificates", self.directory, f"{path.name} is missing")
        try:
            context.load_cert_chain(certificate, key)
        except (OSError, ssl.SSLError) as error:
            reason = f"{certificate.name} and {key.name} cannot be used: {error}"
            raise InvalidInput("tls-certificates", self.directory, reason) from error

    def _load_authority(self, context: ssl.SSLContext, *, required: bool) -> bool:
        authority, revoked = self._path("ca-cert.pem"), self._path("ca-crl.pem")
        if not authority.is_file():
            if required:
                raise InvalidInput("tls-certificates", self.directory, "ca-cert.pem is missing")
            return False
        try:
            context.load_verify_locations(authority)
            if revoked.is_file():
                context.load_verify_locations(revoked)
                context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
        except (OSError, ssl.SSLError) as error:
            reason = f"ca-cert.pem or ca-crl.pem cannot be used: {error}"
            raise InvalidInput("tls-certificates", self.directory, reason) from error
        return True


class TlsStream:
    """A stream inside TLS over a connected socket.

    One thread may receive while another sends: OpenSSL's object is touched under a lock only, and
    never while a system call waits. (``ssl.SSLSocket`` of the Pythons in use does not allow that.)

    Args:
        sock: connected, handed over; plain bytes have been exchanged up to the upgrade.
        context: from ``TlsCredentials``.
        server_side: which part to play.
        hostname: name the server's certificate must carry; empty does not check the name.
    """

    def __init__(
        self, sock: socket.socket, context: ssl.SSLContext, *, server_side: bool, hostname: str = ""
    ) -> None:
        self.sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        if hostname and context.verify_mode is not ssl.CERT_NONE:
            context.check_hostname = True
        self._tls = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_side,
            server_hostname=hostname or None,
        )
        self._tls_lock = threading.Lock()
        self._send_lock = threading.Lock()
        self._raw = memoryview(bytearray(_RECEIVE))
        self.set_timeout = sock.settimeout

    def handshake(self, deadline_ns: int) -> None:
        """Agree on keys before a moment of ``time.monotonic_ns``.

        Raises:
            OSError: the handshake failed (``ssl.SSLError`` says why), or took too long.
            EOFError: the other side closed the connection.
        """
        while True:
            self.sock.settimeout(max(1e-3, (deadline_ns - time.monotonic_ns()) / 1e9))
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                if time.monotonic_ns() >= deadline_ns:
                    raise TimeoutError("the TLS handshake took too long") from None
                if not self._receive():
                    raise EOFError("the other side closed the connection") from None
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    self._flush()  # the alert tells the other side why
                raise
            else:
                self._flush()
                return

    def recv_into(self, buffer: memoryview, nbytes: int = 0, flags: int = 0, /) -> int:  # noqa: ARG002
        """Receive at least one byte; 0 means that the other side has ended the stream."""
        wanted = nbytes or len(buffer)
        while True:
            with self._tls_lock:
                count = self._read(buffer, wanted)
                answer = self._outgoing.pending
            # A key update wants an answer. Waiting for a sender here could block both ends for
            # good; the sender that holds the lock takes the answer along.
            if answer and self._send_lock.acquire(blocking=False):
                try:
                    self._flush()
                finally:
                    self._send_lock.release()
            if count is not None:
                return count
            if not self._receive():
                return 0

    def _read(self, buffer: memoryview, wanted: int) -> int | None:
        done = 0
        try:
            while done < wanted:
                count = int(self._tls.read(wanted - done, buffer[done:]))
                if not count:
                    break
                done += count
        except ssl.SSLWantReadError:
            return done or None
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return done
        return done

    def _receive(self) -> int:
        count = self.sock.recv_into(self._raw)
        with self._tls_lock:
            if count:
                self._incoming.write(self._raw[:count])
            else:
                self._incoming.write_eof()
        return count

    def _flush(self) -> None:
        with self._tls_lock:
            data = self._outgoing.read()
        if data:
            self.sock.sendall(data)

    def sendall(self, data: Buffer, /) -> None:
        """Send everything."""
        view = memoryview(data)
        with self._send_lock:
            for position in range(0, len(view), _SEND_STEP):
                with self._tls_lock:
                    self._tls.write(view[position : position + _SEND_STEP])
                self._flush()

    def send_parts(self, parts: Sequence[Buffer]) -> None:
        """Send several buffers as if they were one."""
        if sum(map(len, parts)) <= _SEND_STEP:
            self.sendall(b"".join(parts))
        else:
            for part in parts:
                self.sendall(part)

    def abort(self) -> None:
        """End the stream at once; calls that block in other threads return."""
        shut_down(self.sock)

    def close(self) -> None:
        """Say goodbye inside TLS, if the other side still listens, and release the socket."""
        with contextlib.suppress(OSError):
            with self._tls_lock, contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()
            self.sock.settimeout(0)
            self._flush()
        shut_down(self.sock)
        self.sock.close()
