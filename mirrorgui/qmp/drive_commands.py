"""The QMP command that makes or opens a target and begins a mirror onto it."""

from pathlib import Path
from typing import Any

from mirrorgui.block.creation import TargetMode
from mirrorgui.block.findings import refuse_if_unsafe
from mirrorgui.block.identity import identify_node, identify_path
from mirrorgui.block.naming import format_of
from mirrorgui.block.open import DRIVERS, PROTOCOLS, probe, with_format
from mirrorgui.block.overlap import check_overlap
from mirrorgui.block.spec import has_protocol, parse_spec
from mirrorgui.block.targets import Created, create_target
from mirrorgui.blocking import in_thread
from mirrorgui.errors import MirrorGUIError, NodeError
from mirrorgui.graph.building import GUESSED
from mirrorgui.graph.nodes import GraphNode
from mirrorgui.graph.placing import check_replaces
from mirrorgui.house import House
from mirrorgui.mirror.options import SyncMode, check_granularity
from mirrorgui.pair import plan_by_node
from mirrorgui.qmp.dispatch import Arguments, command
from mirrorgui.qmp.errors import QmpError
from mirrorgui.qmp.mirror_commands import check_options, mirror_options, root_node
from mirrorgui.qmp.refusals import qemu_words
from mirrorgui.request import MirrorRequest


@command("drive-mirror")
async def drive_mirror(house: House, args: Arguments) -> None:
    """Mirror a node onto a file, which is made unless the mode says otherwise."""
    with qemu_words():
        source = root_node(house, args["device"])
        check_granularity(args["granularity"])
        source.require_not_busy()
        replaces = _replaces(house, source, args)
        if "node-name" in args:
            house.graph.check_new_name(args["node-name"])
        check_options(args)
        request = MirrorRequest(
            source.node.name,
            args["target"],
            target_format=args.get("format"),
            target_mode=TargetMode(args["mode"]),
            options=mirror_options(house, args, unmap=args["unmap"]),
        )
        target, created = await _target(house, source, request, args.get("node-name"))
        try:
            found = await house.look(source, target)
            if root_node(house, args["device"]) is not source:  # the window can end a mirror
                raise NodeError(f"Node '{args['device']}' has been exchanged")
            source.require_not_busy()
            house.begin(request, source, target, found=found, replaces=replaces)
        except MirrorGUIError:
            house.graph.remove(target)
            await house.settle()
            if created is not None:
                await in_thread(created.remove)
            raise
    if created is not None:
        await in_thread(created.keep)


def _replaces(house: House, source: GraphNode, args: Arguments) -> GraphNode | None:
    if "replaces" not in args:
        return None
    if "node-name" not in args:
        raise QmpError("a node-name must be provided when replacing a named node of the graph")
    replaced = check_replaces(house.graph, source, args["replaces"])
    return None if replaced is source else replaced


async def _target(
    house: House, source: GraphNode, request: MirrorRequest, node_name: str | None
) -> tuple[GraphNode, Created | None]:
    """Make the target, if that is asked for, and open it."""
    await house.settle()  # it may have been the target of a job that has just ended
    created = await in_thread(lambda: _create(source, request))
    try:
        options = await in_thread(lambda: _options(source, request))
        if node_name is not None:
            options["node-name"] = node_name
        return await house.add_node(options, by_monitor=False, target_of=source), created
    except MirrorGUIError:
        if created is not None:
            await in_thread(created.remove)
        raise


def _create(source: GraphNode, request: MirrorRequest) -> Created | None:
    """Make the target as ``drive-mirror`` does it; what was there is put aside. Blocks."""
    known = set(DRIVERS) - PROTOCOLS
    if request.target_mode is TargetMode.EXISTING:
        if request.target_format is not None and request.target_format not in known:
            raise QmpError(f"Unknown driver '{request.target_format}'")
        return None
    if request.target_format is not None and request.target_format not in known:
        raise QmpError(f"Unknown file format '{request.target_format}'")
    if request.target.startswith("json:") or has_protocol(request.target):
        raise QmpError(f"Only files can be made, not '{request.target}'; use mode 'existing'")
    there = identify_path(request.target, "target", writing=True, may_be_missing=True)
    if there.in_use:
        raise QmpError(there.in_use)
    found = check_overlap(identify_node(source.node), there, may_stand_on_source=True)
    refuse_if_unsafe(found, {"source": source.name, "target": request.target})
    image_format = request.target_format or format_of(source.node)
    if image_format != "qcow2" and _needs_backing(source, request.options.sync):
        raise QmpError(f"Backing file not supported for file format '{image_format}'")
    if there.device is not None:
        raise QmpError(f"'{request.target}' is a device; use mode 'existing'")
    if not Path(request.target).absolute().parent.is_dir():
        raise QmpError(f"Could not create '{request.target}': No such file or directory")
    return create_target(plan_by_node(request, source.node), request.target, replace=True)


def _needs_backing(source: GraphNode, sync: SyncMode) -> bool:
    """Whether a new target would be less than the source without a backing file."""
    return sync is SyncMode.NONE or (sync is SyncMode.TOP and source.node.backing is not None)


def _options(source: GraphNode, request: MirrorRequest) -> dict[str, Any]:
    """Return the options that open the target. Blocks."""
    tree = parse_spec(request.target, "target")
    image_format = request.target_format
    if request.target_mode is not TargetMode.EXISTING:
        # What is made here is known to be of that format, whatever its first bytes look like.
        image_format = plan_by_node(request, source.node).format
    if image_format is not None:
        return dict(with_format(tree, image_format, "target"))
    if "driver" not in tree:
        tree["driver"] = probe(tree, "target")
        if tree["driver"] == "raw":
            tree[GUESSED] = True
    return dict(tree)
