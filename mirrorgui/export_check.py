"""What keeps a source from being offered to guests at an address, found out before anything starts.

Whoever starts an export meets the same conditions again: addresses may be taken in between.
"""

import contextlib
import errno
import ipaddress
import os
import socket
import stat
from pathlib import Path

from mirrorgui.block.findings import Finding, Severity, refuse
from mirrorgui.errors import InvalidInput
from mirrorgui.nbd.tls import TlsCredentials
from mirrorgui.nbd.uri import NbdAddress, parse_uri
from mirrorgui.request import ExportRequest
from mirrorgui.runtime import runtime_folder

MAX_SOCKET_PATH = 107
"""``sun_path`` has 108 bytes, and a path ends with NUL (unix(7))."""

_PROBE_S = 1.0


def check_export(export: ExportRequest) -> list[Finding]:
    """Say what is wrong with an export, and what a person has to agree to.

    Blocks: names are resolved, and a socket file is tried. Nothing is made or listened on.

    Returns:
        Findings of the field ``export``: ``refuse`` makes a start fail; ``confirm`` of code
        ``export-remote`` does so unless ``allow_remote`` is set.
    """
    try:
        address = parse_uri(export.uri)
    except InvalidInput as error:
        return [refuse("export-uri", f"'{export.uri}' is no address: {error.reason}.", "export")]
    found = _unix(address.socket_path) if address.is_unix else _tcp(address, export)
    return found + _tls(address)


def _refused(text: str) -> list[Finding]:
    return [refuse("export-address", text, "export")]


def _unix(path: str) -> list[Finding]:
    if path.startswith("\0"):
        return []
    if not path.startswith("/"):
        return _refused(f"'{path}' is not a whole path: it must begin with '/'.")
    length = len(os.fsencode(path))
    if length > MAX_SOCKET_PATH:
        return _refused(
            f"The socket's path has {length} bytes; the system allows {MAX_SOCKET_PATH}."
        )
    try:
        mode = Path(path).stat().st_mode
    except FileNotFoundError:
        return _new_socket(Path(path).parent)
    except OSError as error:
        return _refused(f"{path} cannot be used: {error.strerror}.")
    if not stat.S_ISSOCK(mode):
        return _refused(f"{path} exists and is no socket.")
    return _old_socket(path)


def _new_socket(folder: Path) -> list[Finding]:
    if folder == runtime_folder() and not folder.exists():
        folder = folder.parent  # it is made when it is needed
    if not folder.is_dir():
        return _refused(f"The folder {folder} does not exist.")
    if not os.access(folder, os.W_OK | os.X_OK):
        return _refused(f"Nothing can be made in {folder}: permission denied.")
    return []


def _old_socket(path: str) -> list[Finding]:
    """Try a socket that is there; one that nobody serves any more is replaced at the start."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_S)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return []
        except OSError as error:
            return _refused(f"{path} cannot be used: {error.strerror or error}.")
    return _refused(f"Another program listens at {path}.")


def _tcp(address: NbdAddress, export: ExportRequest) -> list[Finding]:
    try:
        places = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return _refused(f"{address.host} cannot be listened at: {reason}.")
    problems = [_bind_problem(family, where) for family, _, _, _, where in places]
    missing = [each for each in problems if each in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)]
    # A name may also stand for addresses that this computer does not have, such as ::1.
    fatal = [each for each in problems if each and each not in missing]
    if fatal or len(missing) == len(places):
        return _refused(_tcp_text(address, (fatal or missing)[0]))
    hosts = (ipaddress.ip_address(str(each[4][0]).partition("%")[0]) for each in places)
    return [_remote(address, export)] if not all(host.is_loopback for host in hosts) else []


def _bind_problem(family: int, where: tuple[object, ...]) -> int:
    """Return the number of the error that binding there ends with; 0 when it works."""
    with contextlib.ExitStack() as stack:
        try:
            sock = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(where)
        except OSError as error:
            return error.errno or errno.EINVAL
    return 0


def _tcp_text(address: NbdAddress, number: int) -> str:
    if number == errno.EADDRINUSE:
        return f"Port {address.port} of {address.host} is in use by another program."
    if number == errno.EADDRNOTAVAIL:
        return f"{address.host} is not an address of this computer."
    return f"{address.place} cannot be listened at: {os.strerror(number)}."


def _remote(address: NbdAddress, export: ExportRequest) -> Finding:
    deed = "read" if export.read_only else "read and write"
    if address.tls and address.tls_verify_peer:
        text = (
            f"Anyone with a certificate of your authority who can reach {address.place} can "
            f"{deed} this disk."
        )
    else:
        text = f"Anyone who can reach {address.place} can {deed} this disk. There is no password."
    return Finding(Severity.CONFIRM, "export-remote", "export", text)


def _tls(address: NbdAddress) -> list[Finding]:
    if not address.tls:
        return []
    folder = address.tls_certificates
    try:
        TlsCredentials(
            Path(folder) if folder else None, verify_peer=address.tls_verify_peer
        ).server_context()
    except InvalidInput as error:
        text = f"The certificates in {folder or 'no folder'} cannot be used: {error.reason}."
        return [refuse("export-tls", text, "export")]
    return []
