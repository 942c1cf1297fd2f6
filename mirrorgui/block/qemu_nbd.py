"""Formats and protocols that QEMU knows and we do not: through a private ``qemu-nbd`` process."""

import errno
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from mirrorgui.block.file import FileNode
from mirrorgui.block.formats import LABELS
from mirrorgui.block.nbd import NbdNode
from mirrorgui.block.node import BlockNode
from mirrorgui.block.options import Options, Tree
from mirrorgui.block.qemu_process import PROGRAM, QemuNbd
from mirrorgui.block.spec import FOREIGN_PROTOCOLS
from mirrorgui.errors import BlockIOError, ImageRefused, InvalidInput, RequestCancelled
from mirrorgui.nbd.client import ClientConnection
from mirrorgui.nbd.client_handshake import open_export
from mirrorgui.nbd.uri import parse_uri

PACKAGE = "qemu-utils"
"""Debian's name of what brings the program."""

OPEN_TIMEOUT_S = 60.0
"""For opening an image, which may be far away."""


@dataclass(frozen=True, slots=True)
class Asked:
    """How an image is to be opened.

    Attributes:
        field: the option that named it, for refusals.
        read_only: open for reading.
        force_share: look at it although others write; for reading only.
        locking: of QEMU's image locks: ``auto``, ``on`` or ``off``.
        discard: ``unmap`` or ``ignore``.
        detect_zeroes: ``off``, ``on`` or ``unmap``.
    """

    field: str = "filename"
    read_only: bool = False
    force_share: bool = False
    locking: str = "auto"
    discard: str = "unmap"
    detect_zeroes: str = "off"


def open_foreign(driver: str, options: Options, asked: Asked, *, name: str = "") -> BlockNode:
    """Open an image through ``qemu-nbd``.

    Args:
        driver: QEMU's name of the format or protocol.
        options: all that are left are taken and given to QEMU, which refuses what it does not
            know. A format has a child ``file``: its options, or an open node, which is closed
            first, because the process opens (and locks) the image itself. A protocol may have a
            single option ``uri``. For a passphrase a format has ``key-file``, the path of a file
            that holds it, to the last byte.
        asked: see ``Asked``.
        name: for messages; what is at the bottom by default.

    Raises:
        ImageRefused: it cannot be opened; the reason is QEMU's. Nothing is left behind.
        InvalidInput: an option makes no sense.
    """
    tree = options.take_rest()
    key_file = _take_key_file(driver, tree, asked)
    request = _request(driver, tree, asked)
    name = name or request.name
    if driver == "luks" and not key_file:
        text = "It is encrypted: option key-file must name a file that holds the passphrase."
        raise ImageRefused(asked.field, name, text)
    program = shutil.which(PROGRAM)
    if program is None:
        label = LABELS.get(driver, driver)
        text = (
            f"{label} images are opened through {PROGRAM}, which is not installed. "
            f"The package {PACKAGE} brings it."
        )
        raise ImageRefused(asked.field, name, text)
    command = [program, "--shared=0", f"--discard={asked.discard}"]
    command.append(f"--detect-zeroes={asked.detect_zeroes}")
    if asked.read_only:
        command.append("--read-only")
    if key_file:
        secret = {"qom-type": "secret", "id": "key", "file": key_file}
        command += ["--object", json.dumps(secret)]
    try:
        process = QemuNbd(command + request.arguments)
    except OSError as error:
        text = f"{PROGRAM} cannot be started: {error.strerror or error}"
        raise ImageRefused(asked.field, name, text) from error
    return ForeignNode(process, driver, request, asked, name)


class ForeignNode(NbdNode):
    """An image that a ``qemu-nbd`` of our own shows us.

    Its end, however it came, is EIO for every request from then on; the node stays as it is.

    Attributes:
        driver: QEMU's name of the format or protocol.
        path: the host path of the file it is stored in; empty where it is not local.
        options: what QEMU was told; another one can be opened so once this one is closed.
        pid: number of the process.

    Concurrency: as ``BlockNode``.
    """

    def __init__(
        self, process: QemuNbd, driver: str, request: "_Request", asked: Asked, name: str
    ) -> None:
        self._process = process
        self.path = request.path
        self.options = request.tree
        self.pid = process.pid
        try:
            super().__init__(
                process.address,
                read_only=asked.read_only,
                name=name,
                field=asked.field,
                connect_timeout_s=OPEN_TIMEOUT_S,
                reconnect_s=0.0,
            )
        except InvalidInput as error:
            process.end(at_once=True)
            reason = process.reason(request.arguments[-1]) or error.reason
            raise ImageRefused(asked.field, name, reason) from error
        self.driver = driver
        # Requests that are cancelled cost their connections. This one keeps the process alive.
        opened = open_export(process.address, timeout_s=OPEN_TIMEOUT_S, field=asked.field)
        self._anchor = ClientConnection(opened)

    def close(self) -> None:
        """See ``BlockNode.close``. Returns when the process has ended."""
        super().close()
        self._anchor.close()
        self._process.end()

    @contextmanager
    def _errors(self, operation: str, offset: int, length: int) -> Iterator[None]:
        try:
            with super()._errors(operation, offset, length):
                yield
        except RequestCancelled:
            raise
        except BlockIOError as error:
            if error.errno != errno.ENOTCONN:
                raise
            detail = self._process.obituary()
            raise BlockIOError(
                operation, offset, length, errno.EIO, self.name, detail=detail
            ) from error


# What QEMU is told


@dataclass(frozen=True, slots=True)
class _Request:
    """An image in QEMU's words.

    Attributes:
        arguments: the last ones of the command; the very last is the image.
        tree: the same as options.
        name: what people call the image.
        path: the host path of its file; empty where it is not local.
    """

    arguments: list[str]
    tree: Tree
    name: str
    path: str


def _request(driver: str, tree: Tree, asked: Asked) -> _Request:
    if driver in FOREIGN_PROTOCOLS:
        below = tree = {**tree, "driver": driver}
        others: Tree = {}
    else:
        below = _child(tree, asked)
        others = {key: value for key, value in tree.items() if key != "file"}
        tree = {"driver": driver, **others, "file": below}
    bottom = _bottom(below)
    filename = bottom.get("filename")
    path = filename if isinstance(filename, str) and _is_local(bottom) else ""
    name = str(bottom.get("uri") or filename or bottom.get("url") or driver)
    uri = below.get("uri")
    if uri is None or below.get("driver") == "nbd":
        image = "json:" + json.dumps(_generic({**tree, "driver": driver}, asked))
        return _Request([image], tree, name, path)
    # QEMU takes URIs apart in one place only: where an image is named by nothing else.
    if others or set(below) - {"driver", "uri"} or asked.force_share:
        text = "further options need those of the protocol instead of a URI"
        raise InvalidInput(f"{asked.field}.uri", uri, text)
    format_name = "raw" if driver in FOREIGN_PROTOCOLS else driver
    return _Request([f"--format={format_name}", "--", str(uri)], tree, name, path)


def _generic(tree: Tree, asked: Asked) -> Tree:
    """Add what every node can be told, and translate what only we have."""
    told = _translated(tree, asked)
    if asked.force_share:
        told["force-share"] = True
    return told


def _translated(tree: Mapping[str, object], asked: Asked) -> Tree:
    told: Tree = {}
    for key, value in tree.items():
        if isinstance(value, BlockNode):
            value = _options_of(value, asked)
        if isinstance(value, Mapping):
            told[key] = _translated(value, asked)
        elif key != "x-write-out":
            told[key] = value
    if told.get("driver") == "nbd" and "uri" in told:
        told.update(_nbd_server(str(told.pop("uri")), asked))
    elif _is_local(told) and asked.locking != "auto":
        told.setdefault("locking", asked.locking)
    return told


def _child(tree: Tree, asked: Asked) -> Tree:
    child = tree.get("file")
    if isinstance(child, BlockNode):
        return _options_of(child, asked)
    if isinstance(child, Mapping):
        return dict(child)
    text = f"{PROGRAM} opens images itself, so they must be given by options or by name"
    raise InvalidInput(f"{asked.field}.file", child or "", text)


def _options_of(node: BlockNode, asked: Asked) -> Tree:
    """Say how QEMU opens what is open here, which is closed: two would stand in each other's way.

    Raises:
        InvalidInput: only files and what other servers offer can be opened by others.
    """
    if isinstance(node, ForeignNode):
        tree = node.options
    elif isinstance(node, FileNode):
        driver = "host_device" if node.is_device else "file"
        tree = {"driver": driver, "filename": node.path}
    elif isinstance(node, NbdNode):
        tree = {"driver": "nbd", "uri": node.uri}
    else:
        text = f"{PROGRAM} cannot open it: it exists only in this program"
        raise InvalidInput(f"{asked.field}.file", node.name, text)
    node.close()
    return tree


def _nbd_server(uri: str, asked: Asked) -> Tree:
    """Translate an NBD URI into QEMU's options."""
    try:
        address = parse_uri(uri)
    except InvalidInput as error:
        raise InvalidInput(asked.field, uri, error.reason) from error
    if address.tls:
        raise InvalidInput(asked.field, uri, f"{PROGRAM} is not given certificates: use nbd://")
    if address.is_unix:
        server: Tree = {"type": "unix", "path": address.socket_path}
    else:
        server = {"type": "inet", "host": address.host, "port": str(address.port)}
    return {"server": server, "export": address.export}


def _bottom(tree: Mapping[str, object]) -> Mapping[str, object]:
    while True:
        below = tree.get("file", tree.get("image"))
        if not isinstance(below, Mapping):
            return tree
        tree = below


def _is_local(tree: Mapping[str, object]) -> bool:
    return tree.get("driver") in ("file", "host_device", "host_cdrom")


def _take_key_file(driver: str, tree: Tree, asked: Asked) -> str:
    """Take the file of the passphrase, and tell the format that there is one."""
    key_file = tree.pop("key-file", "")
    if not isinstance(key_file, str):
        raise InvalidInput(f"{asked.field}.key-file", key_file, "must be a string")
    if key_file and driver == "luks":
        tree["key-secret"] = "key"
    elif key_file and driver == "qcow":
        tree["encrypt"] = {"format": "aes", "key-secret": "key"}
    elif key_file:
        text = f"{LABELS.get(driver, driver)} images have no passphrase"
        raise InvalidInput(f"{asked.field}.key-file", key_file, text)
    return key_file
