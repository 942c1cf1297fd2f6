"""The options of ``blockdev-add`` for driver ``nbd`` (qapi/block-core.json, BlockdevOptionsNbd)."""

from mirrorgui.block.node import BlockNode
from mirrorgui.block.options import Options
from mirrorgui.errors import InvalidInput
from mirrorgui.nbd.uri import NbdAddress, parse_uri


def open_nbd(options: Options, *, read_only: bool, field: str) -> BlockNode:
    """Open an export.

    Args:
        options: ``uri``; or ``server`` (``type`` unix with ``path``, or inet with ``host`` and
            ``port``) and ``export``; ``reconnect-delay`` and ``open-timeout`` in seconds.
        read_only: open for reading.
        field: the option that named the image, for refusals.

    Raises:
        ImageRefused: it cannot be opened.
        InvalidInput: an option is wrong.
    """
    # Encryption and its certificates take long to import, and most mirrors need none.
    from mirrorgui.block.nbd import CONNECT_TIMEOUT_S, RECONNECT_S, NbdNode

    name = None  # the address as a URI
    if "uri" in options:
        name = options.take("uri", str)
        try:
            address = parse_uri(name)
        except InvalidInput as error:
            raise InvalidInput(field, name, error.reason) from error
    else:
        server = Options(options.take_tree("server"), options.name_of("server"))
        address = _address(server, options.take("export", str, ""))
    reconnect_s = options.take("reconnect-delay", int, int(RECONNECT_S))
    connect_s = options.take("open-timeout", int, int(CONNECT_TIMEOUT_S))
    for option, value in (("reconnect-delay", reconnect_s), ("open-timeout", connect_s)):
        if value < 0:
            raise InvalidInput(options.name_of(option), value, "must not be negative")
    return NbdNode(
        address,
        read_only=read_only,
        name=name,
        field=field,
        connect_timeout_s=connect_s or CONNECT_TIMEOUT_S,
        reconnect_s=reconnect_s,
    )


def _address(server: Options, export: str) -> NbdAddress:
    kind = server.take_choice("type", ("inet", "unix"), "")
    if kind == "unix":
        path = server.take("path", str)
        if not path:  # an address without one means a port
            raise InvalidInput(server.name_of("path"), path, "must name a socket")
        address = NbdAddress(socket_path=path, export=export)
    else:
        host = server.take("host", str)
        address = NbdAddress(host=host, port=_port(server), export=export)
    server.finish()
    return address


def _port(server: Options) -> int:
    """Take the port: QEMU has it as a string, which may also be a number here."""
    port = server.take_size("port", 0)
    if not 0 < port <= 65535:
        raise InvalidInput(server.name_of("port"), port, "must be a number from 1 to 65535")
    return port
