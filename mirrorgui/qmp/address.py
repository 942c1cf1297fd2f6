"""Where a monitor listens: a Unix socket, or a TCP port that only this machine can reach."""

import ipaddress
from dataclasses import dataclass

from mirrorgui.errors import InvalidInput

MAX_PATH = 107
"""Bytes of a Unix socket's path (``sun_path`` less the final 0)."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen.

    Attributes:
        path: of a Unix socket; empty for TCP.
        host: name or number of a loopback address; empty for a Unix socket.
        port: 0 takes one that is free.
    """

    path: str = ""
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp:{host}:{self.port}"


def parse_address(text: str, field: str = "qmp") -> Address:
    """Read ``unix:PATH``, a path, ``tcp:HOST:PORT`` or ``HOST:PORT``.

    A text with a slash and no known beginning is a path.

    Raises:
        InvalidInput: naming what is wrong; an address that others could reach is refused.
    """
    kind, colon, rest = text.partition(":")
    if colon and kind == "unix":
        return _unix(text, rest, field)
    if colon and kind == "tcp":
        return _tcp(text, rest, field)
    if "/" in text or not colon:
        return _unix(text, text, field)
    return _tcp(text, text, field)


def _unix(text: str, path: str, field: str) -> Address:
    if not path:
        raise InvalidInput(field, text, "a path is missing")
    if "\0" in path:
        raise InvalidInput(field, text, "a path cannot contain a zero byte")
    if len(path.encode(errors="surrogateescape")) > MAX_PATH:
        raise InvalidInput(field, text, f"a socket's path can have {MAX_PATH} bytes at most")
    return Address(path=path)


def _tcp(text: str, rest: str, field: str) -> Address:
    host, colon, port = rest.rpartition(":")
    if not colon:
        raise InvalidInput(field, text, "expected HOST:PORT")
    if not (port.isascii() and port.isdigit() and int(port) < 1 << 16):
        raise InvalidInput(field, text, f"'{port}' is not a port number from 0 to 65535")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not _is_loopback(host):
        reason = (
            f"'{host}' can be reached from elsewhere, and QMP asks nobody who they are: "
            "only localhost and loopback addresses are allowed"
        )
        raise InvalidInput(field, text, reason)
    return Address(host=host, port=int(port))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
