"""NBD URIs, as other NBD programs write them: text to address and back.

See https://github.com/NetworkBlockDevice/nbd/blob/master/doc/uri.md
"""

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

from mirrorgui.errors import InvalidInput
from mirrorgui.nbd.constants import DEFAULT_PORT, MAX_STRING

_SCHEMES = {
    "nbd": (False, False),
    "nbds": (False, True),
    "nbd+tcp": (False, False),  # QEMU's longer names for the two
    "nbds+tcp": (False, True),
    "nbd+unix": (True, False),
    "nbds+unix": (True, True),
}
_URI = re.compile(r"([^:/?#]*):(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?(#.*)?", re.DOTALL)
_AUTHORITY = re.compile(r"(?:(.*)@)?(\[[0-9A-Fa-f:.%]*\]|[^:\[\]]*)(?::(\d*))?", re.DOTALL)
_BOOLEANS = {"0": False, "1": True, "false": False, "true": True}
_PARAMETERS = (
    "socket",
    "tls-hostname",
    "tls-verify-peer",
    "tls-certificates",
    "tls-type",
)


@dataclass(frozen=True, slots=True)
class NbdAddress:
    """Where an NBD server listens, which of its exports is meant, and whether TLS is demanded.

    Attributes:
        socket_path: path of a Unix socket (an abstract one begins with NUL); empty for TCP.
        host: name or address for TCP.
        port: for TCP; 0 lets a server take a free one.
        export: name of the export; the empty name is the server's default export.
        tls: the connection must be encrypted.
        tls_hostname: name that the server's certificate must carry, where it is not ``host``.
        tls_verify_peer: the server must prove who it is.
        tls_certificates: directory of certificates, or empty for the system's authorities.
    """

    socket_path: str = ""
    host: str = "localhost"
    port: int = DEFAULT_PORT
    export: str = ""
    tls: bool = False
    tls_hostname: str = ""
    tls_verify_peer: bool = True
    tls_certificates: str = ""

    @property
    def is_unix(self) -> bool:
        """Whether it is a Unix socket."""
        return bool(self.socket_path)

    @property
    def place(self) -> str:
        """The socket's path or ``host:port``, for messages."""
        if self.is_unix:
            return self.socket_path.replace("\0", "@", 1)
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return format_uri(self)


def is_nbd_uri(text: str) -> bool:
    """Say whether ``text`` is meant as an NBD URI, well formed or not."""
    return text.partition(":")[0].lower() in _SCHEMES and ":" in text


def parse_uri(text: str) -> NbdAddress:
    """Read an NBD URI such as ``nbd://host:10809/disk`` or ``nbd+unix:///disk?socket=/run/s``.

    Raises:
        InvalidInput: with field ``uri``; the reason says what is wrong.
    """
    match = _URI.fullmatch(text)
    if match is None or match[1].lower() not in _SCHEMES:
        raise _refused(text, f"the scheme must be one of {', '.join(_SCHEMES)}")
    scheme, authority, path, query, fragment = match.groups()
    if fragment is not None:
        raise _refused(text, "an NBD URI has no '#'; write it as %23")
    if authority is None and path:  # QEMU's old nbd:HOST:PORT would pass for an export's name
        raise _refused(text, "write it as nbd://HOST:PORT/EXPORT")
    unix, tls = _SCHEMES[scheme.lower()]
    parameters = _parameters(text, query or "")
    host, port = _authority(text, authority or "")
    socket_path = parameters.get("socket", "")
    if unix and not socket_path:
        raise _refused(text, "the parameter socket=PATH is missing")
    if unix and host:
        raise _refused(text, f"a Unix socket has no host, but '{host}' was given")
    if not unix and socket_path:
        raise _refused(text, "the parameter socket needs the scheme nbd+unix or nbds+unix")
    return NbdAddress(
        socket_path=socket_path,
        host=host or "localhost",
        port=port,
        export=_export(text, path),
        tls=tls,
        tls_hostname=parameters.get("tls-hostname", ""),
        tls_verify_peer=_boolean(text, "tls-verify-peer", parameters),
        tls_certificates=parameters.get("tls-certificates", ""),
    )


def format_uri(address: NbdAddress) -> str:
    """Write an address as the URI that ``parse_uri`` reads back."""
    scheme = ("nbds" if address.tls else "nbd") + ("+unix" if address.is_unix else "")
    authority = ""
    if not address.is_unix:
        host = f"[{address.host}]" if ":" in address.host else quote(address.host, safe="")
        authority = host if address.port == DEFAULT_PORT else f"{host}:{address.port}"
    parameters = []
    if address.is_unix:
        parameters.append("socket=" + quote(address.socket_path, safe="/"))
    if address.tls_hostname:
        parameters.append("tls-hostname=" + quote(address.tls_hostname, safe=""))
    if not address.tls_verify_peer:
        parameters.append("tls-verify-peer=0")
    if address.tls_certificates:
        parameters.append("tls-certificates=" + quote(address.tls_certificates, safe="/"))
    query = "?" + "&".join(parameters) if parameters else ""
    return f"{scheme}://{authority}/{quote(address.export, safe='/')}{query}"


def _refused(text: str, reason: str) -> InvalidInput:
    return InvalidInput("uri", text, reason)


def _authority(text: str, authority: str) -> tuple[str, int]:
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        raise _refused(text, f"'{authority}' is not HOST or HOST:PORT")
    user, host, port_text = match.groups()
    if user is not None:
        raise _refused(text, "a user name belongs to TLS-PSK, which is not supported")
    port = int(port_text) if port_text else DEFAULT_PORT
    if port > 65535:
        raise _refused(text, f"port {port} is not between 0 and 65535")
    return _decoded(text, host.strip("[]"), "the host"), port


def _export(text: str, path: str) -> str:
    export = _decoded(text, path.removeprefix("/"), "the export name")
    if len(export.encode()) > MAX_STRING:
        raise _refused(text, f"the export name is longer than {MAX_STRING} bytes")
    return export


def _parameters(text: str, query: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in query.split("&") if query else []:
        key, equals, value = item.partition("=")
        if key not in _PARAMETERS:
            known = ", ".join(_PARAMETERS)
            raise _refused(text, f"the parameter '{key}' is not known (known are {known})")
        if not equals or not value:
            raise _refused(text, f"the parameter {key} has no value")
        if key in found:
            raise _refused(text, f"the parameter {key} is given twice")
        abstract = key == "socket" and value.startswith("%00")
        decoded = _decoded(text, value[3:] if abstract else value, f"the parameter {key}")
        found[key] = "\0" + decoded if abstract else decoded
    if found.get("tls-type", "x509") != "x509":
        raise _refused(text, f"tls-type {found['tls-type']} is not supported, only x509 is")
    return found


def _boolean(text: str, key: str, parameters: dict[str, str]) -> bool:
    value = parameters.get(key, "1")
    if value not in _BOOLEANS:
        raise _refused(text, f"the parameter {key} is '{value}' instead of 0 or 1")
    return _BOOLEANS[value]


def _decoded(text: str, part: str, what: str) -> str:
    try:
        decoded = unquote_to_bytes(part).decode()
    except UnicodeError as error:
        raise _refused(text, f"{what} is not UTF-8") from error
    if "\0" in decoded:
        raise _refused(text, f"{what} contains a NUL character")
    return decoded
