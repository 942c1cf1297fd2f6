"""QMP commands that act upon nodes."""

import contextlib
import os
from collections.abc import Mapping
from typing import Any

from mirrorgui.block.chain import Below
from mirrorgui.block.file import FileNode
from mirrorgui.block.walk import bottom_of
from mirrorgui.blocking import in_thread
from mirrorgui.errors import MirrorGUIError
from mirrorgui.graph.nodes import GraphNode, inmost
from mirrorgui.house import House
from mirrorgui.qmp.dispatch import Arguments, command
from mirrorgui.qmp.errors import QmpError
from mirrorgui.qmp.refusals import qemu_words

_SHOWS = {"raw": "file", "blkdebug": "image", "mirror_top": "backing"}
"""Driver -> the child that it shows as it is."""

_BLOCK = 512
"""Unit of ``st_blocks`` in bytes."""


@command("blockdev-add")
async def blockdev_add(house: House, args: Arguments) -> None:
    """Open an image and the nodes that it stands on."""
    if "node-name" not in args:
        raise QmpError("'node-name' must be specified for the root node")
    with qemu_words():
        await house.add_node(args)


@command("blockdev-del")
async def blockdev_del(house: House, args: Arguments) -> None:
    """Close a node that was added by name."""
    await house.delete_node(args["node-name"])


@command("query-named-block-nodes")
async def query_named_block_nodes(house: House, args: Arguments) -> list[dict[str, Any]]:
    """Tell of all nodes."""
    # A job that ends meanwhile lets go of its nodes: their descriptors must stay what they are.
    async with house.looking() as nodes:
        specific = await in_thread(lambda: {node.name: _qcow2_details(node) for node in nodes})
        return [_describe(node, specific, flat=args["flat"]) for node in nodes]


def _qcow2_details(node: GraphNode) -> dict[str, Any]:
    """Return what is told of qcow2 images only. Blocks: some of it is read from the file."""
    header, file = getattr(inmost(node.node), "header", None), node.child("file")
    if node.driver != "qcow2" or header is None or file is None:
        return {}
    from mirrorgui.block.qcow2.details import format_specific, snapshots

    told: dict[str, Any] = {"cluster-size": header.cluster_size}
    with contextlib.suppress(MirrorGUIError):
        told["format-specific"] = format_specific(file.node, header, "")
        kept = snapshots(file.node, header, "")
        if kept:
            told["snapshots"] = kept
    if header.backing_file:
        named = Below.of(file.node, header.backing_file, header.backing_format)
        told["backing-filename"] = header.backing_file
        told["full-backing-filename"] = named.full_name
        if header.backing_format:
            told["backing-filename-format"] = header.backing_format
    return told


def _describe(
    node: GraphNode, specific: Mapping[str, dict[str, Any]], *, flat: bool
) -> dict[str, Any]:
    filename = filename_of(node)
    cache = node.options.get("cache", {})
    told: dict[str, Any] = {
        "node-name": node.name,
        "drv": node.driver,
        "file": filename,
        "ro": node.shown_read_only,
        "encrypted": False,
        "detect_zeroes": node.options.get("detect-zeroes", "off"),
        "cache": {
            "writeback": True,
            "direct": cache.get("direct", False),
            "no-flush": cache.get("no-flush", False),
        },
        "backing_file_depth": 0 if flat else _depth(node),
        "image": _image(node, specific, flat=flat),
        "write_threshold": 0,
        **dict.fromkeys(("iops", "iops_rd", "iops_wr", "bps", "bps_rd", "bps_wr"), 0),
    }
    backing = node.child("backing")
    if backing is not None and node.driver != "mirror_top":
        told["backing_file"] = filename_of(backing)
    return told


def _depth(node: GraphNode) -> int:
    below = _below(node)
    return 0 if below is None else 1 + _depth(below)


def _below(node: GraphNode) -> GraphNode | None:
    """Return what QEMU counts as the next of the chain: the backing node, or what is filtered."""
    return node.child("image") if node.driver == "blkdebug" else node.child("backing")


def _shown_by(node: GraphNode) -> GraphNode | None:
    """Return the node that one shows as it is, through all that do so."""
    below: GraphNode | None = node
    while below is not None and below.driver in _SHOWS:
        below = below.child(_SHOWS[below.driver])
    return below


def _image(
    node: GraphNode, specific: Mapping[str, dict[str, Any]], *, flat: bool
) -> dict[str, Any]:
    """Return QEMU's ``ImageInfo``."""
    image: dict[str, Any] = {
        "filename": filename_of(node),
        "format": node.driver,
        "virtual-size": node.node.size,
    }
    bottom = bottom_of(node.node)
    if bottom.driver != "null-co":
        image["dirty-flag"] = False
    elif node.driver != "blkdebug":
        image["actual-size"] = 0
    if isinstance(bottom, FileNode) and node.driver != "blkdebug":
        status = os.fstat(bottom.fileno())
        image["actual-size"] = getattr(status, "st_blocks", 0) * _BLOCK
    image |= specific.get(node.name, {})
    if "cluster-size" not in image and (shown := _shown_by(node)) is not None:
        sizes = specific.get(shown.name, {})
        image |= {name: sizes[name] for name in sizes if name == "cluster-size"}
    below = _below(node)
    if below is not None and not flat:
        image["backing-image"] = _image(below, specific, flat=False)
    return image


def filename_of(node: GraphNode) -> str:
    """Return what QEMU calls the file of a node."""
    if node.driver == "blkdebug":
        below = node.child("image") or node.child("file")
        return f"blkdebug::{filename_of(below)}" if below is not None else "blkdebug::"
    if node.driver == "mirror_top" and (below := node.child("backing")) is not None:
        return filename_of(below)
    return node.node.name
