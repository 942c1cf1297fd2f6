"""The QMP commands that begin a mirror."""

import asyncio
import dataclasses
import enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirrorgui.blocking import in_thread
from mirrorgui.errors import NodeError
from mirrorgui.graph.nodes import GraphNode
from mirrorgui.graph.placing import check_replaces, require_not_busy, require_root, unfiltered
from mirrorgui.house import House
from mirrorgui.mirror.bitmap import MapWords
from mirrorgui.mirror.options import (
    CopyMode,
    ErrorPolicy,
    MirrorOptions,
    SyncMode,
    check_granularity,
)
from mirrorgui.qmp.dispatch import Arguments, command
from mirrorgui.qmp.errors import QmpError
from mirrorgui.qmp.jobs_commands import block_job
from mirrorgui.qmp.refusals import qemu_words, require_job_id
from mirrorgui.qmp.schema import MAX_CELLS
from mirrorgui.request import MirrorRequest


@command("blockdev-mirror")
async def blockdev_mirror(house: House, args: Arguments) -> None:
    """Mirror a node onto another one."""
    with qemu_words():
        ends = _ends(house, args)
        found = await house.look(*ends)
        source, target = _ends(house, args)
        if (source, target) != ends:  # the window can end a mirror meanwhile
            raise NodeError(f"Node '{args['device']}' or '{args['target']}' has been exchanged")
        replaces = check_start(house, source, target, args)
        filter_name = args.get("filter-node-name", "")
        if "filter-node-name" in args:
            house.graph.check_new_name(filter_name)
        options = mirror_options(house, args, target_is_zero=args["target-is-zero"])
        request = MirrorRequest(source.node.name, target.node.name, options=options)
        house.begin(
            request, source, target, found=found, filter_name=filter_name, replaces=replaces
        )
    await asyncio.sleep(0)  # it runs before the client hears that it was begun, as in QEMU


def _ends(house: House, args: Arguments) -> tuple[GraphNode, GraphNode]:
    return root_node(house, args["device"]), house.graph.find_device(args["target"])


def root_node(house: House, name: str) -> GraphNode:
    """Return the node that a mirror is to begin on.

    Raises:
        NodeError: there is none, or something of the graph stands on it.
    """
    node = house.graph.find_device(name)
    require_root(node)
    return node


def check_start(
    house: House, source: GraphNode, target: GraphNode, args: Arguments
) -> GraphNode | None:
    """Check what can be refused about two nodes, in the order in which QEMU does it.

    Returns:
        The node to replace at the end, where it is not the source.

    Raises:
        QmpError, NodeError, InvalidInput: it is refused.
    """
    check_granularity(args["granularity"])
    require_not_busy(source, target)
    replaced = None
    if "replaces" in args:
        replaced = check_replaces(house.graph, source, args["replaces"])
    check_options(args)
    if unfiltered(source) is unfiltered(target):
        raise QmpError("Can't mirror node into itself")
    return None if replaced is source else replaced


def check_options(args: Arguments) -> None:
    """Refuse options that QEMU knows and nobody has, and one that makes no sense.

    Raises:
        QmpError: it is refused.
    """
    if args["sync"] in ("incremental", "bitmap"):
        raise QmpError(f"Sync mode '{args['sync']}' not supported")
    if args["buf-size"] < 0:
        raise QmpError("Invalid parameter 'buf-size'")


def mirror_options(house: House, args: Arguments, **more: Any) -> MirrorOptions:  # noqa: ANN401
    """Return the job's arguments.

    Raises:
        InvalidInput: one of them cannot be.
    """
    job_id = args.get("job-id", "")
    require_job_id(job_id)
    house.require_free(job_id)
    return MirrorOptions(
        job_id=job_id,
        sync=SyncMode(args["sync"]),
        granularity=args["granularity"],
        buf_size=args["buf-size"],
        speed=args["speed"],
        copy_mode=CopyMode(args["copy-mode"]),
        on_source_error=ErrorPolicy(args["on-source-error"]),
        on_target_error=ErrorPolicy(args["on-target-error"]),
        auto_finalize=args["auto-finalize"],
        auto_dismiss=args["auto-dismiss"],
        **more,
    )


@command("x-mirror-snapshot")
async def x_mirror_snapshot(house: House, args: Arguments) -> dict[str, Any]:
    """Tell everything about a mirror at this moment, and its map in so many cells."""
    job = block_job(house, args["id"])
    snapshot = job.snapshot()
    words = MapWords.empty(snapshot.chunks)
    job.copy_map_into(words)
    told = _as_json(snapshot)
    assert isinstance(told, dict)
    cells = max(1, min(args["cells"], snapshot.chunks, MAX_CELLS))
    folded = await in_thread(lambda: _fold_all(words, snapshot.chunks, cells))
    told["map"] = {
        "chunks": snapshot.chunks,
        "granularity": snapshot.granularity,
        "cells": cells,
        **folded,
    }
    return told


def _fold_all(words: MapWords, chunks: int, cells: int) -> dict[str, list[int]]:
    """Fold each map. Takes a second for a great many chunks: not on the loop."""
    edges = np.linspace(0, chunks, cells + 1).astype(np.int64)
    names = ("dirty", "copied", "failed")
    return {name: _fold(getattr(words, name), chunks, edges) for name in names}


def _fold(words: NDArray[np.uint64], chunks: int, edges: NDArray[np.int64]) -> list[int]:
    """Return how many chunks are set between each two edges."""
    if not chunks:
        return [0] * (len(edges) - 1)
    bits = np.unpackbits(words.view(np.uint8), count=chunks, bitorder="little")
    counts = np.add.reduceat(bits, edges[:-1], dtype=np.int64)
    return [int(count) for count in counts]


def _as_json(value: object) -> object:
    """Turn a frozen look into what JSON has; underscores in names become hyphens."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {one.name.replace("_", "-"): _as_json(getattr(value, one.name)) for one in fields}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, tuple | list):
        return [_as_json(one) for one in value]
    return value
