"""From the name of an image to an open node.

A new driver is one function here or in its module, and one line in ``DRIVERS``; a new URI scheme
is one line in ``spec.URI_DRIVERS``. What only some images need is imported when one is opened: the
start of a command counts.
"""

import dataclasses
import errno
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeAlias

from mirrorgui.block.file import FileNode
from mirrorgui.block.filter import FilterNode
from mirrorgui.block.formats import FORMATS, HEAD_SIZE, LABELS, TAIL_SIZE, recognise
from mirrorgui.block.hostfile import LOCKING
from mirrorgui.block.node import BlockNode
from mirrorgui.block.null import DEFAULT_SIZE, NullNode
from mirrorgui.block.options import Options, Tree
from mirrorgui.block.raw import ProbedRawGuard, RawNode
from mirrorgui.block.spec import Spec, parse_spec, protocol_of
from mirrorgui.errors import BlockIOError, ImageRefused, InvalidInput

_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)


@dataclass(frozen=True, slots=True)
class How:
    """How to open; handed down from a node to its children.

    Attributes:
        field: the option that named the image, for refusals: ``source``, ``target``, ...
        read_only: open for reading, unless the options say otherwise.
        force_share: look at it although others write, without locks; for reading only.
        locking: QEMU's image locks, unless the options say otherwise: ``auto``, ``on``, ``off``.
        write_out: see ``FileNode``; bytes.
        nodes: open nodes by their node-name, for children that are given by name.
    """

    field: str = "filename"
    read_only: bool = False
    force_share: bool = False
    locking: str = "auto"
    write_out: int = 0
    nodes: Mapping[str, BlockNode] = dataclasses.field(default_factory=dict)


Driver: TypeAlias = Callable[[Options, How], BlockNode]
"""Opens a node from its own options. It closes what it opened when it fails."""


def open_image(
    spec: Spec,
    *,
    format: str | None = None,
    node_name: str = "",
    how: How | None = None,
) -> BlockNode:
    """Open an image.

    Args:
        spec: path, URI, ``json:{...}`` or options.
        format: QEMU's name of the format; ``None`` recognises it by its header. An image that is
            taken for raw only so keeps its first sector guarded, see ``ProbedRawGuard``.
        node_name: its name among nodes, unless the options give one.
        how: see ``How``; by default for reading and writing, field ``filename``.

    Raises:
        ImageRefused: the image cannot be used. Nothing is left open.
        InvalidInput: an option is wrong. Nothing is left open.
    """
    how = how or How()
    tree = parse_spec(spec, how.field)
    if node_name:
        tree.setdefault("node-name", node_name)
    if format is not None:
        tree = _with_format(tree, format, how)
    return _open_tree(tree, how)


@contextmanager
def opened_child(options: Options, key: str, how: How) -> Iterator[BlockNode]:
    """Open a child node for the block of a ``with``, which takes it over unless it fails.

    Args:
        options: the parent's.
        key: the child's name there, such as ``file``.
        how: the parent's.

    Raises:
        InvalidInput: it is missing, or not a node; or from its opening.
    """
    child = options.take_child(key)
    if isinstance(child, str):
        if child not in how.nodes:
            raise InvalidInput(
                options.name_of(key), child, f"Cannot find device='' nor node-name='{child}'"
            )
        node: BlockNode = SharedNode(how.nodes[child])
    elif isinstance(child, BlockNode):
        node = child
    else:
        node = _open_tree(child, how, is_protocol=True)
    try:
        yield node
    except BaseException:
        node.close()
        raise


class SharedNode(FilterNode):
    """Somebody else's node as a child: closing the parent leaves it open."""

    def __init__(self, child: BlockNode) -> None:
        super().__init__(child, node_name=child.node_name)
        self.driver = child.driver

    def close(self) -> None:
        """Do nothing: it is not ours."""


def _with_format(tree: Tree, name: str, how: How) -> Tree:
    """Put a named format on top of what is there."""
    if name not in DRIVERS or name in PROTOCOLS:
        known = ", ".join(sorted(set(DRIVERS) - PROTOCOLS))
        raise InvalidInput(f"{how.field}-format", name, f"Unknown format; known are {known}")
    given = tree.get("driver")
    if given is None and "filename" not in tree:
        return {**tree, "driver": name}
    if given is None or given in PROTOCOLS:
        outer = {"node-name": tree.pop("node-name")} if "node-name" in tree else {}
        return {"driver": name, "file": tree, **outer}
    if given != name:
        raise InvalidInput(f"{how.field}-format", name, f"the options say driver {given}")
    return tree


def _open_tree(tree: Tree, how: How, *, is_protocol: bool = False) -> BlockNode:
    """Open a node from its options, generic ones included."""
    options = Options(tree, how.field)
    node_name = options.take("node-name", str, "")
    how = replace(
        how,
        read_only=options.take("read-only", bool, how.read_only),
        force_share=options.take("force-share", bool, how.force_share),
    )
    if how.force_share and not how.read_only:
        raise InvalidInput(
            options.name_of("force-share"), True, "can only be used with read-only images"
        )
    auto_read_only = options.take("auto-read-only", bool, False)
    discard = options.take_choice("discard", ("unmap", "ignore"), "unmap")
    detect_zeroes = options.take_choice("detect-zeroes", ("off", "on", "unmap"), "off")
    no_flush = _take_cache(options)
    driver = _driver_of(options, is_protocol=is_protocol)
    try:
        node = driver(options, how)
    except ImageRefused as refusal:
        cause = refusal.__cause__
        if how.read_only or not auto_read_only or not isinstance(cause, OSError):
            raise
        if cause.errno not in _NOT_WRITABLE:
            raise
        return _open_tree({**tree, "read-only": True}, how, is_protocol=is_protocol)
    try:
        options.finish()
    except InvalidInput:
        node.close()
        raise
    if (discard, detect_zeroes, no_flush) != ("unmap", "off", False):
        from mirrorgui.block.generic import (
            GenericOptionsNode,
        )  # brings numpy, and is rarely asked for

        node = GenericOptionsNode(
            node, discard=discard, detect_zeroes=detect_zeroes, no_flush=no_flush
        )
    node.node_name = node_name or node.node_name
    return node


def _take_cache(options: Options) -> bool:
    """Take option ``cache``; return whether flushes are to be forgotten."""
    cache = Options(options.take_tree("cache"), options.name_of("cache"))
    if cache.take("direct", bool, False):
        raise InvalidInput(
            cache.name_of("direct"), True, "direct I/O is not offered; images go through the cache"
        )
    no_flush = cache.take("no-flush", bool, False)
    cache.finish()
    return no_flush


def _driver_of(options: Options, *, is_protocol: bool) -> Driver:
    if "driver" in options:
        name = options.take("driver", str)
        if name not in DRIVERS:
            raise InvalidInput(options.name_of("driver"), name, f"Unknown driver '{name}'")
        return DRIVERS[name]
    if "filename" in options:
        return _open_filename if is_protocol else _open_filename_probed
    return _open_probed


def _open_filename(options: Options, how: How) -> BlockNode:
    """A protocol node that is given by a file name or URI alone."""
    text = options.take("filename", str)
    return _open_tree(protocol_of(text, how.field), how)


def _open_filename_probed(options: Options, how: How) -> BlockNode:
    text = options.take("filename", str)
    return _open_tree({"file": protocol_of(text, how.field)}, how)


def _open_probed(options: Options, how: How) -> BlockNode:
    """A format node whose format nobody named: recognise it."""
    with opened_child(options, "file", how) as child:
        name = _probe(child, how.field)
        if name != "raw":
            options.put("file", child)
            return DRIVERS[name](options, how)
        raw = _as_raw(child)
        return raw if raw.read_only else ProbedRawGuard(raw)


def _probe(node: BlockNode, field: str) -> str:
    """Recognise the format that an open protocol node holds."""
    head = bytearray(min(HEAD_SIZE, node.size))
    tail = bytearray(min(TAIL_SIZE, node.size))
    try:
        node.read_into(0, head)
        node.read_into(node.size - len(tail), tail)
    except BlockIOError as error:
        text = f"Cannot read {node.name}: {error.strerror}."
        raise ImageRefused(field, node.name, text) from error
    return recognise(bytes(head), bytes(tail))


def probe(path: Spec, field_name: str = "filename") -> str:
    """Return the format of an image, without locking it: a QEMU name, ``raw`` where none is known.

    Args:
        path: the image.
        field_name: the option that named it, for refusals.

    Raises:
        ImageRefused: it cannot be read.
        InvalidInput: an option is wrong.
    """
    tree = parse_spec(path, field_name)
    how = How(field_name, read_only=True, force_share=True)
    if "driver" in tree and tree["driver"] not in PROTOCOLS:
        return str(tree["driver"])
    protocol = tree if "driver" in tree else tree.get("file", tree)
    if not isinstance(protocol, dict):
        raise InvalidInput(f"{field_name}.file", protocol, "must be an object")
    node = _open_tree(protocol, how, is_protocol=True)
    try:
        return _probe(node, field_name)
    finally:
        node.close()


def _as_raw(child: BlockNode) -> BlockNode:
    """Show a whole node as raw: a file without a name of its own needs no node above it."""
    if isinstance(child, FileNode) and not child.node_name:
        child.driver = "raw"
        return child
    return RawNode(child)


def _open_raw(options: Options, how: How) -> BlockNode:
    with opened_child(options, "file", how) as child:
        if "offset" not in options and "size" not in options:
            return _as_raw(child)
        offset = options.take_size("offset", 0)
        if offset > child.size:
            raise InvalidInput(
                options.name_of("offset"), offset, f"the file has only {child.size} bytes"
            )
        size = options.take_size("size", child.size - offset)
        if size > child.size - offset:
            raise InvalidInput(
                options.name_of("size"), size, f"only {child.size - offset} bytes are there"
            )
        return RawNode(child, offset=offset, size=size)


def _open_file(options: Options, how: How) -> FileNode:
    path = options.take("filename", str)
    locking = options.take_choice("locking", LOCKING, how.locking)
    options.take_choice("aio", ("threads",), "threads")
    return FileNode(
        path,
        read_only=how.read_only,
        field=how.field,
        locking=locking,
        force_share=how.force_share,
        write_out=options.take_size("x-write-out", how.write_out),
    )


def _open_regular_file(options: Options, how: How) -> BlockNode:
    node = _open_file(options, how)
    if node.is_device:
        node.close()
        raise ImageRefused(
            how.field, node.path, f"'file' driver requires '{node.path}' to be a regular file"
        )
    return node


def _open_host_device(options: Options, how: How) -> BlockNode:
    node = _open_file(options, how)
    if not node.is_device:
        node.close()
        raise ImageRefused(
            how.field,
            node.path,
            f"'host_device' driver requires '{node.path}' to be a block device",
        )
    return node


def _open_null(options: Options, how: How) -> BlockNode:
    options.take("read-zeroes", bool, True)  # they are zeroes either way
    return NullNode(
        options.take_size("size", DEFAULT_SIZE),
        latency_ns=options.take_size("latency-ns", 0),
        read_only=how.read_only,
    )


def _open_blkdebug(options: Options, how: How) -> BlockNode:
    from mirrorgui.block.blkdebug import BlkdebugNode
    from mirrorgui.block.blkdebug_rules import take_rules

    rules = take_rules(options)
    align = options.take_size("align", 0)
    if align & (align - 1):
        raise InvalidInput(options.name_of("align"), align, "must be a power of 2")
    max_transfer = options.take_size("max-transfer", 0)
    with opened_child(options, "image", how) as child:
        return BlkdebugNode(child, rules, align=align, max_transfer=max_transfer)


def _refuse_format(name: str) -> Driver:
    def refuse(options: Options, how: How) -> BlockNode:
        child = options.take_child("file")
        image: object = child.name if isinstance(child, BlockNode) else child
        if isinstance(image, dict):
            image = image.get("filename", image)
        raise ImageRefused(
            how.field,
            image,
            f"{LABELS[name]} images cannot be read yet. Convert it to raw, or name the format raw "
            "to mirror the file's bytes as they are.",
        )

    return refuse


def _open_nbd(options: Options, how: How) -> BlockNode:
    # Only for those who need it: it brings ssl.
    from mirrorgui.block.nbd_options import open_nbd

    return open_nbd(options, read_only=how.read_only, field=how.field)


DRIVERS: dict[str, Driver] = {
    **{known.name: _refuse_format(known.name) for known in FORMATS},
    "file": _open_regular_file,
    "host_device": _open_host_device,
    "nbd": _open_nbd,
    "null-co": _open_null,
    "raw": _open_raw,
    "blkdebug": _open_blkdebug,
}
"""Driver -> what opens it."""

PROTOCOLS = frozenset(("file", "host_device", "nbd", "null-co", "blkdebug"))
"""Drivers that a format can stand on (blkdebug passes for one: it shows what is below it)."""
