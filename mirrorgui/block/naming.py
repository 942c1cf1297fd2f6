"""The name under which others can open what is open here: for a backing file's name."""

import json
import os
from dataclasses import dataclass

from mirrorgui.block.drivers import PROTOCOLS
from mirrorgui.block.file import FileNode
from mirrorgui.block.filter import FilterNode
from mirrorgui.block.info import ImageInfo
from mirrorgui.block.node import BlockNode
from mirrorgui.block.options import Tree
from mirrorgui.block.raw import RawNode
from mirrorgui.block.spec import has_protocol
from mirrorgui.block.walk import bottom_of
from mirrorgui.errors import ImageRefused


@dataclass(frozen=True, slots=True)
class Named:
    """An image by name.

    Attributes:
        filename: an absolute path, a URI or ``json:{...}``.
        format: QEMU's name of its format.
    """

    filename: str
    format: str


def format_of(node: BlockNode) -> str:
    """Return QEMU's name of the format that a node shows, ``raw`` for a bare protocol."""
    while isinstance(node, FilterNode) and not isinstance(node, RawNode):
        node = node.child
    return "raw" if node.driver in PROTOCOLS else node.driver


def name_of(node: BlockNode, field: str) -> Named:
    """Name an open image so that it can be opened from anywhere.

    Filters are left out: they change nothing that is stored.

    Args:
        node: the image.
        field: the option that named it, for refusals.

    Raises:
        ImageRefused: it is in this program's memory only.
    """
    image_format = format_of(node)
    tree = _protocol(bottom_of(node), field)
    part = _part_of(node)
    if part is not None:
        whole = {"driver": "raw", "offset": part.offset, "size": part.size, "file": tree}
        return Named(f"json:{json.dumps(whole)}", "raw")
    return Named(str(tree.get("uri") or tree["filename"]), image_format)


def name_of_info(info: ImageInfo) -> Named:
    """Name an image that was looked at, likewise."""
    name = info.filename
    return Named(name if has_protocol(name) else os.path.abspath(name), info.format)  # noqa: PTH100


def _part_of(node: BlockNode) -> RawNode | None:
    """Return the window on a file that a raw node is; None where it shows the whole of it."""
    while isinstance(node, FilterNode):
        if isinstance(node, RawNode) and (node.offset or node.size != node.child.size):
            return node
        node = node.child
    return None


def _protocol(bottom: BlockNode, field: str) -> Tree:
    if isinstance(bottom, FileNode):
        driver = "host_device" if bottom.is_device else "file"
        return {"driver": driver, "filename": os.path.abspath(bottom.path)}  # noqa: PTH100
    uri, path = getattr(bottom, "uri", ""), getattr(bottom, "path", "")
    if path:  # a format that others read for us
        return {"driver": "file", "filename": os.path.abspath(path)}  # noqa: PTH100
    if bottom.driver == "nbd" and uri:
        return {"driver": "nbd", "uri": uri}
    text = "It has no name under which a backing file could be found later."
    raise ImageRefused(field, bottom.name, text)
