"""Nodes in memory for tests of the graph."""

from mirrorgui.block.memory import MemoryNode
from mirrorgui.graph.doors import Door, Link
from mirrorgui.graph.nodes import Graph, GraphNode, User, from_outside
from mirrorgui.graph.permissions import Access, Part, Permission, of_export
from mirrorgui.units import KiB

SIZE = 64 * KiB


def add(graph: Graph, name: str, *, driver: str = "raw", by_monitor: bool = True) -> GraphNode:
    """Add a node of its own."""
    node = MemoryNode(SIZE)
    node.name = name
    return graph.add(GraphNode(name, node, driver, Door(node), by_monitor=by_monitor))


def stand(
    graph: Graph,
    above: GraphNode,
    below: GraphNode,
    role: str = "file",
    part: Part = Part.FILTERED,
    access: Access | None = None,
) -> User:
    """Let a node stand on another one."""
    link = Link(below.door if below.busy else below.node)
    who = f"node '{above.name}'"
    return graph.attach(User(below, role, who, access or Access(), above, part, link))


def export(graph: Graph, node: GraphNode, *, writable: bool = False) -> User:
    """Let somebody outside use a node."""
    return graph.attach(from_outside(node, of_export(writable=writable)))


READ = Access(Permission.CONSISTENT_READ)
