"""The sockets that a monitor listens on. Everything here blocks, but for an instant only."""

import contextlib
import errno
import os
import socket
import stat
from pathlib import Path

from mirrorgui.errors import InvalidInput
from mirrorgui.nbd import transport
from mirrorgui.nbd.uri import NbdAddress
from mirrorgui.qmp.address import Address

MODE = 0o600
"""Of the socket's file: who can open it can do with the images what this process can."""

_BACKLOG = 16


class Listening:
    """Open sockets at an address, and the file that belongs to them.

    Args:
        address: where to listen.
        field: the option that the address came with, for refusals.

    Attributes:
        sockets: one for a Unix path, one for each address of a host name.
        address: where they listen, with the port that was taken.

    Raises:
        InvalidInput: it cannot be listened on; nothing stays open.
    """

    def __init__(self, address: Address, field: str = "qmp") -> None:
        self.address = address
        self._file: tuple[int, int] | None = None
        if address.path:
            self.sockets = [self._listen_unix(Path(address.path), field)]
            return
        try:
            place = NbdAddress(host=address.host, port=address.port)
            self.sockets = transport.listen(place, allow_remote=False)
        except InvalidInput as error:
            raise InvalidInput(field, address, error.reason) from None
        port = self.sockets[0].getsockname()[1]
        self.address = Address(host=address.host, port=port)

    def _listen_unix(self, path: Path, field: str) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        try:
            # The file takes its mode from the socket: there is no moment at which others can enter.
            os.fchmod(sock.fileno(), MODE)
            _bind(sock, path, field)
            status = path.lstat()
            self._file = status.st_dev, status.st_ino
            sock.listen(_BACKLOG)
        except OSError as error:
            sock.close()
            self._remove_file()
            reason = error.strerror or str(error)
            raise InvalidInput(field, self.address, reason) from error
        except BaseException:
            sock.close()
            raise
        return sock

    def close(self) -> None:
        """Stop listening and remove the file, unless somebody else has put another in its place."""
        self._remove_file()
        for sock in self.sockets:
            sock.close()

    def _remove_file(self) -> None:
        path = Path(self.address.path)
        if self._file is not None:
            with contextlib.suppress(OSError):
                status = path.lstat()
                if (status.st_dev, status.st_ino) == self._file:
                    path.unlink()
            self._file = None


def _bind(sock: socket.socket, path: Path, field: str) -> None:
    try:
        sock.bind(str(path))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        _remove_stale(path, field)
        sock.bind(str(path))


def _remove_stale(path: Path, field: str) -> None:
    """Remove a socket file that nobody listens on any more.

    Raises:
        InvalidInput: somebody does, or it is no socket.
    """
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise InvalidInput(field, path, "a file that is not a socket is in its place")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)  # a full backlog is an answer too
        if probe.connect_ex(str(path)) != errno.ECONNREFUSED:
            raise InvalidInput(field, path, "another program listens there")
    path.unlink()
