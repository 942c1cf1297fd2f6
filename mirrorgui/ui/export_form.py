"""The export in the New mirror form, without its widgets. Free of Qt."""

import re
from dataclasses import dataclass

from mirrorgui.nbd.constants import DEFAULT_PORT
from mirrorgui.nbd.uri import NbdAddress, format_uri, parse_uri
from mirrorgui.request import ExportRequest
from mirrorgui.ui.i18n import tr
from mirrorgui.ui.names import short_name

LOOPBACK = "127.0.0.1"

_ADDRESS = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.%]+)\]|(?P<host>[^:\[\]\s]+))(?::(?P<port>\d+))?")
_ODD = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class ExportValues:
    """What is filled in about the export.

    Attributes:
        enabled: the source is offered.
        unix: on a Unix socket; over TCP otherwise.
        socket_path: the socket.
        host, port: over TCP; port 0 takes a free one.
        name: of the export; empty takes one made of the source's name.
        read_only: clients may only read.
        certificates: folder of a server's certificates: TLS over TCP. Empty for none.
        allow_remote: it is ticked that other machines may reach it.
    """

    enabled: bool = False
    unix: bool = True
    socket_path: str = ""
    host: str = LOOPBACK
    port: int = DEFAULT_PORT
    name: str = ""
    read_only: bool = False
    certificates: str = ""
    allow_remote: bool = False


def automatic_name(source: str) -> str:
    """Make an export's name of a source's that no shell and no URI has to quote."""
    name = short_name(source).rpartition(".")[0] or short_name(source)
    return _ODD.sub("-", name).strip("-.") or "disk"


def read_address(text: str) -> tuple[str, int]:
    """Read ``HOST``, ``HOST:PORT`` or ``[IPV6]:PORT`` as a person types it.

    Raises:
        ValueError: it is none of these; the text says what would be.
    """
    match = _ADDRESS.fullmatch(text.strip())
    if match is None:
        raise ValueError(
            tr("'{text}' is not an address (examples: 127.0.0.1:10809, [::1]:10809)", text=text)
        )
    port = int(match["port"]) if match["port"] else DEFAULT_PORT
    if port > 65535:
        raise ValueError(tr("Port {port} does not exist: the last one is 65535", port=port))
    return match["six"] or match["host"], port


def write_address(host: str, port: int) -> str:
    """Write what ``read_address`` reads."""
    return NbdAddress(host=host, port=port).place


def export_uri(values: ExportValues, source: str) -> str:
    """Return where the source would be offered, with the certificates that the server uses."""
    name = values.name or automatic_name(source)
    if values.unix:
        return format_uri(NbdAddress(socket_path=values.socket_path, export=name))
    return format_uri(
        NbdAddress(
            host=values.host,
            port=values.port,
            export=name,
            tls=bool(values.certificates),
            tls_certificates=values.certificates,
        )
    )


def export_request(values: ExportValues, source: str) -> ExportRequest | None:
    """Make a request of what is filled in; None when the source is not to be offered."""
    if not values.enabled:
        return None
    return ExportRequest(
        export_uri(values, source),
        read_only=values.read_only,
        allow_remote=values.allow_remote and not values.unix,
    )


def export_values_of(request: ExportRequest | None) -> ExportValues:
    """Return the form that a request was made of; the agreement has to be given again."""
    if request is None:
        return ExportValues()
    address = parse_uri(request.uri)
    return ExportValues(
        enabled=True,
        unix=address.is_unix,
        socket_path=address.socket_path,
        host=LOOPBACK if address.is_unix else address.host,
        port=address.port,
        name=address.export,
        read_only=request.read_only,
        certificates=address.tls_certificates,
    )


def missing_text(values: ExportValues) -> str:
    """Say what is not filled in, or return an empty text."""
    if values.enabled and values.unix and not values.socket_path:
        return tr("Say where the socket for clients goes.")
    return ""


def explanation(values: ExportValues) -> str:
    """Say what the choice means."""
    if not values.enabled:
        return tr("Nobody uses the source meanwhile; it is opened for reading only.")
    if values.read_only:
        return tr("Clients can read. After a switch they read the target, until you remove it.")
    return tr(
        "Clients write to the source. After a switch they use the target, until you remove the "
        "mirror from the list."
    )


def export_line(values: ExportValues, source: str) -> str:
    """Say in the summary where the source is offered, or return an empty text."""
    if not values.enabled or missing_text(values):
        return ""
    place = values.socket_path if values.unix else write_address(values.host, values.port)
    if values.read_only:
        return tr("Clients read {source} at {place}.", source=short_name(source), place=place)
    return tr("Clients use {source} at {place}.", source=short_name(source), place=place)
