"""QMP commands that act upon the NBD server and its exports."""

from collections.abc import Mapping
from typing import Any

from mirrorgui.errors import InvalidInput
from mirrorgui.house import House
from mirrorgui.nbd.uri import NbdAddress
from mirrorgui.qmp.dispatch import Arguments, command
from mirrorgui.qmp.errors import QmpError
from mirrorgui.qmp.refusals import qemu_words

_MAX_PORT = 65535


@command("nbd-server-start")
async def nbd_server_start(house: House, args: Arguments) -> None:
    """Listen for NBD clients."""
    if house.exports.server is not None:
        raise QmpError("NBD server already running")
    if "tls-creds" in args:
        raise QmpError(f"No TLS credentials with id '{args['tls-creds']}'")
    address = _address(args["addr"])
    try:
        await house.exports.start(address, max_connections=args.get("max-connections", 0))
    except InvalidInput as error:
        text = f"Failed to bind socket to {address.place}: {error.reason}"
        raise QmpError(text) from error


def _address(given: Mapping[str, Any]) -> NbdAddress:
    kind, data = given["type"], given["data"]
    if kind == "unix":
        path = str(data["path"])
        if not path:  # an address without one means a port
            raise QmpError("Invalid parameter 'path': must name a socket")
        return NbdAddress(socket_path=f"\0{path}" if data.get("abstract") else path)
    if kind == "inet":
        for name in ("to", "ipv4", "ipv6", "mptcp"):
            if name in data:
                raise QmpError(f"Option '{name}' is not supported")
        port = str(data["port"])
        if not port.isascii() or not port.isdigit() or int(port) > _MAX_PORT:
            raise QmpError(
                f"address resolution failed for {data['host']}:{port}: "
                "Servname not supported for ai_socktype"
            )
        return NbdAddress(host=str(data["host"]), port=int(port))
    if kind == "fd":
        raise QmpError("only QEMU supports file descriptor passing")
    raise QmpError(f"Sockets of type '{kind}' are not supported")


@command("nbd-server-stop")
async def nbd_server_stop(house: House, args: Arguments) -> None:  # noqa: ARG001
    """Disconnect all clients and listen no longer."""
    await house.exports.stop()


@command("block-export-add")
async def block_export_add(house: House, args: Arguments) -> None:
    """Offer a node to clients."""
    if args["type"] != "nbd":
        raise QmpError(f"Exports of type '{args['type']}' are not supported")
    if "iothread" in args:
        raise QmpError(f'iothread "{args["iothread"]}" not found')
    if args["allocation-depth"]:
        raise QmpError("Option 'allocation-depth' is not supported")
    for bitmap in args.get("bitmaps", ()):
        if isinstance(bitmap, str):
            raise QmpError(f"Bitmap '{bitmap}' is not found")
        if bitmap["node"] not in house.graph:
            raise QmpError(f"Node '{bitmap['node']}' not found")
        raise QmpError(f"Dirty bitmap '{bitmap['name']}' not found")
    with qemu_words():
        house.exports.add(
            args["id"],
            args["node-name"],
            name=args.get("name"),
            description=args.get("description", ""),
            writable=args["writable"],
            writethrough=args["writethrough"],
        )


@command("block-export-del")
async def block_export_del(house: House, args: Arguments) -> None:
    """Offer a node no longer."""
    await house.exports.remove(args["id"], hard=args["mode"] == "hard")
    await house.settle()


@command("query-block-exports")
async def query_block_exports(house: House, args: Arguments) -> list[dict[str, Any]]:  # noqa: ARG001
    """Tell of all exports."""
    return [
        {
            "id": export.id,
            "type": "nbd",
            "node-name": export.node.name,
            "shutting-down": export.shutting_down,
        }
        for export in house.exports.all
    ]
