"""Walking over open nodes: what stores one, and what lies below it."""

import os
import stat
from collections.abc import Iterator

from mirrorgui.block.file import FileNode
from mirrorgui.block.node import BlockNode
from mirrorgui.block.raw import RawNode


def bottom_of(node: BlockNode) -> BlockNode:
    """Return the protocol node that stores a node's own bytes, below filters and formats."""
    while True:
        lower = getattr(node, "child", None) or getattr(node, "file", None)
        if not isinstance(lower, BlockNode):
            return node
        node = lower


def window_of(node: BlockNode) -> tuple[int, int | None]:
    """Return which bytes of its protocol node an image is stored in: offset, length.

    The length is ``None`` where they reach to the end, also as that moves.
    """
    offset, length = 0, None
    while True:
        lower = getattr(node, "child", None)
        if not isinstance(lower, BlockNode):
            lower = getattr(node, "file", None)
            if not isinstance(lower, BlockNode):
                return offset, length
            offset, length = 0, None  # a format puts things where it wants
        elif isinstance(node, RawNode):
            offset += node.offset
            length = node.size if length is None else length
        node = lower


def layers_of(node: BlockNode) -> Iterator[BlockNode]:
    """Yield a node and the open nodes below it in its backing chain, the top first."""
    layer: BlockNode | None = node
    while layer is not None:
        yield layer
        layer = layer.backing


def data_file_of(node: BlockNode) -> BlockNode | None:
    """Return the external data file of a node's format, seen through filters; None without."""
    layer: object = node
    while isinstance(layer, BlockNode):
        data = getattr(layer, "data_file", None)
        if isinstance(data, BlockNode):
            return data
        layer = getattr(layer, "child", None)
    return None


def identity_of(node: BlockNode) -> object:
    """Return what tells a node's own file from any other, whatever name leads to it."""
    bottom = bottom_of(node)
    if isinstance(bottom, FileNode):
        return identity_of_status(os.fstat(bottom.fileno()))
    return bottom.name


def identity_of_status(status: os.stat_result) -> tuple[str, int, int]:
    """Return the same for a file or device that is not open."""
    if stat.S_ISBLK(status.st_mode):
        return "device", status.st_rdev, 0
    return "file", status.st_dev, status.st_ino
