"""From the name of an image to an open node: the options that every node has.

Drivers are in ``drivers.DRIVERS``; a new URI scheme is one line in ``spec.URI_DRIVERS``.
"""

import dataclasses
import errno
from dataclasses import dataclass, replace

from mirrorgui.block.children import SharedNode, opened_child
from mirrorgui.block.drivers import DRIVERS, PROTOCOLS
from mirrorgui.block.how import Driver, How
from mirrorgui.block.node import BlockNode
from mirrorgui.block.options import Options, Tree
from mirrorgui.block.probing import open_probed, probe_node
from mirrorgui.block.spec import Spec, parse_spec, protocol_of
from mirrorgui.errors import ImageRefused, InvalidInput

__all__ = [
    "DRIVERS",
    "PROTOCOLS",
    "Driver",
    "How",
    "SharedNode",
    "open_image",
    "open_tree",
    "opened_child",
    "probe",
    "with_format",
]

NOT_SHARED = "force-share=on can only be used with read-only images"
"""QEMU's refusal of an image that would be written although others do so."""

NO_UNMAP = (
    "setting detect-zeroes to unmap is not allowed without setting discard operation to unmap"
)
"""QEMU's refusal of zeroes that are to give back storage where nothing may."""

_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)


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
        tree = with_format(tree, format, how.field)
    return open_tree(tree, how)


def with_format(tree: Tree, name: str, field: str) -> Tree:
    """Put a named format on top of what is there.

    Args:
        tree: an image's options.
        name: QEMU's name of its format.
        field: the option that named the image, for refusals.

    Raises:
        InvalidInput: there is no such format, or the options name another one.
    """
    if name not in DRIVERS or name in PROTOCOLS:
        known = ", ".join(sorted(set(DRIVERS) - PROTOCOLS))
        raise InvalidInput(f"{field}-format", name, f"Unknown format; known are {known}")
    given = tree.get("driver")
    if given is None and "filename" not in tree:
        return {**tree, "driver": name}
    if given is None or given in PROTOCOLS:
        outer = {"node-name": tree.pop("node-name")} if "node-name" in tree else {}
        return {"driver": name, "file": tree, **outer}
    if given != name:
        raise InvalidInput(f"{field}-format", name, f"the options say driver {given}")
    return tree


def open_tree(tree: Tree, how: How, *, is_protocol: bool = False) -> BlockNode:
    """Open a node from its options, those that every node has included.

    Args:
        tree: the options of ``blockdev-add``.
        how: see ``How``.
        is_protocol: a file name without a driver is a file, whatever it holds; otherwise the
            format in it is recognised.

    Raises:
        ImageRefused, InvalidInput: as ``open_image``.
    """
    options = Options(tree, how.field)
    node_name = options.take("node-name", str, "")
    how = replace(
        how,
        read_only=options.take("read-only", bool, how.read_only),
        force_share=options.take("force-share", bool, how.force_share),
    )
    if how.force_share and not how.read_only:
        raise InvalidInput(options.name_of("force-share"), True, NOT_SHARED)
    auto_read_only = options.take("auto-read-only", bool, False)
    generic = _take_generic(options)
    driver = _driver_of(options, is_protocol=is_protocol)
    try:
        node = driver(options, how)
    except ImageRefused as refusal:
        cause = refusal.__cause__
        if how.read_only or not auto_read_only or not isinstance(cause, OSError):
            raise
        if cause.errno not in _NOT_WRITABLE:
            raise
        return open_tree({**tree, "read-only": True}, how, is_protocol=is_protocol)
    try:
        options.finish()
    except InvalidInput:
        node.close()
        raise
    if generic != _Generic():
        # It brings numpy, and is rarely asked for.
        from mirrorgui.block.generic import GenericOptionsNode

        node = GenericOptionsNode(node, **dataclasses.asdict(generic))
    node.node_name = node_name or node.node_name
    return node


@dataclass(frozen=True, slots=True)
class _Generic:
    """What every node can be told; see ``GenericOptionsNode``."""

    discard: str = "unmap"
    detect_zeroes: str = "off"
    no_flush: bool = False


def _take_generic(options: Options) -> _Generic:
    discard = options.take_choice("discard", ("unmap", "ignore"), "unmap")
    detect_zeroes = options.take_choice("detect-zeroes", ("off", "on", "unmap"), "off")
    if detect_zeroes == "unmap" and discard != "unmap":
        raise InvalidInput(options.name_of("detect-zeroes"), detect_zeroes, NO_UNMAP)
    return _Generic(discard=discard, detect_zeroes=detect_zeroes, no_flush=_take_cache(options))


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
    return open_probed


def _open_filename(options: Options, how: How) -> BlockNode:
    """A protocol node that is given by a file name or URI alone."""
    text = options.take("filename", str)
    return open_tree(protocol_of(text, how.field), how)


def _open_filename_probed(options: Options, how: How) -> BlockNode:
    text = options.take("filename", str)
    return open_tree({"file": protocol_of(text, how.field)}, how)


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
    node = open_tree(protocol, how, is_protocol=True)
    try:
        return probe_node(node, field_name)
    finally:
        node.close()
