"""The drivers: from the options of ``blockdev-add`` to an open node.

A new driver is one function here or in its module, and one line in ``DRIVERS``. What only some
images need is imported when one is opened: the start of a command counts.
"""

from mirrorgui.block.children import opened_child
from mirrorgui.block.file import FileNode
from mirrorgui.block.formats import LABELS
from mirrorgui.block.hostfile import LOCKING
from mirrorgui.block.how import Driver, How
from mirrorgui.block.node import BlockNode
from mirrorgui.block.null import DEFAULT_SIZE, NullNode
from mirrorgui.block.options import Options
from mirrorgui.block.raw import RawNode
from mirrorgui.block.spec import FOREIGN_PROTOCOLS
from mirrorgui.errors import ImageRefused, InvalidInput


def as_raw(child: BlockNode) -> BlockNode:
    """Show a whole node as raw: a file without a name of its own needs no node above it."""
    if isinstance(child, FileNode) and not child.node_name:
        child.driver = "raw"
        return child
    return RawNode(child)


def _open_raw(options: Options, how: How) -> BlockNode:
    with opened_child(options, "file", how) as child:
        if "offset" not in options and "size" not in options:
            return as_raw(child)
        offset = options.take_size("offset", 0)
        if offset > child.size:
            text = (
                f"Offset ({offset}) cannot be greater than size of the containing file "
                f"({child.size})"
            )
            raise InvalidInput(options.name_of("offset"), offset, text)
        size = options.take_size("size", 0) if "size" in options else None
        if size is not None and size > child.size - offset:
            text = (
                f"The sum of offset ({offset}) and size ({size}) has to be smaller or equal to "
                f"the  actual size of the containing file ({child.size})"
            )
            raise InvalidInput(options.name_of("size"), size, text)
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


def _open_nbd(options: Options, how: How) -> BlockNode:
    # Only for those who need it: it brings ssl.
    from mirrorgui.block.nbd_options import open_nbd

    return open_nbd(options, read_only=how.read_only, field=how.field)


def _open_qcow2(options: Options, how: How) -> BlockNode:
    # Only for those who need it: it brings numpy.
    from mirrorgui.block.qcow2.driver import open_qcow2

    return open_qcow2(options, how)


def _foreign(name: str) -> Driver:
    """Return a driver that opens an image through a ``qemu-nbd`` of our own."""

    def open_it(options: Options, how: How) -> BlockNode:
        from mirrorgui.block.qemu_nbd import Asked, open_foreign

        asked = Asked(
            field=how.field,
            read_only=how.read_only,
            force_share=how.force_share,
            locking=how.locking,
        )
        return open_foreign(name, options, asked)

    return open_it


DRIVERS: dict[str, Driver] = {
    **{name: _foreign(name) for name in (*LABELS, "vvfat", *FOREIGN_PROTOCOLS)},
    "qcow2": _open_qcow2,
    "file": _open_regular_file,
    "host_device": _open_host_device,
    "nbd": _open_nbd,
    "null-co": _open_null,
    "raw": _open_raw,
    "blkdebug": _open_blkdebug,
}
"""Driver -> what opens it."""

PROTOCOLS = frozenset(("file", "host_device", "nbd", "null-co", "blkdebug", *FOREIGN_PROTOCOLS))
"""Drivers that a format can stand on (blkdebug passes for one: it shows what is below it)."""
