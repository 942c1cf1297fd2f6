"""The nodes that have names: who stands on whom, who uses what, and what that allows.

Belongs to the event loop's thread. Nothing here blocks: nodes are opened by ``building`` and closed
by who asks for ``take_unused``.
"""

import asyncio
import itertools
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from mirrorgui.block.children import SharedNode
from mirrorgui.block.filter import FilterNode
from mirrorgui.block.generic import GenericOptionsNode
from mirrorgui.block.node import BlockNode
from mirrorgui.block.raw import ProbedRawGuard
from mirrorgui.errors import NodeError
from mirrorgui.graph.doors import Door, Link
from mirrorgui.graph.permissions import ALL, Access, Part, Permission

A_DEVICE = "an unnamed block device"
"""What QEMU calls who uses a node from outside the graph: an export, a job with its target."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9\-._]*")
MAX_NAME = 31
"""Characters of a node's name, in QEMU."""

_WRITING = Permission.WRITE | Permission.WRITE_UNCHANGED


@dataclass(slots=True, eq=False)
class User:
    """One that uses a node.

    Attributes:
        node: what it uses.
        role: for what: the name of a child, or ``root``.
        who: QEMU's words for it.
        access: what it needs and shares; of a node above only what it adds to the rules.
        above: the node above, if it is one.
        part: what the child is to that.
        link: how the node above reaches it, where it is not closed with that.
        is_device: an export or a job's target: such users leave a node a root.
    """

    node: "GraphNode"
    role: str
    who: str
    access: Access = field(default_factory=Access)
    above: "GraphNode | None" = None
    part: Part = Part.FILTERED
    link: Link | None = None
    is_device: bool = False

    def effective(self) -> Access:
        """Return what it needs and shares at the moment."""
        if self.above is None:
            return self.access
        passed = self.part.pass_on(self.above.access(), writable=not self.above.node.read_only)
        return passed.joined(self.access)


@dataclass(slots=True, eq=False)
class GraphNode:
    """A node with a name.

    Attributes:
        name: unique among nodes.
        node: the image.
        driver: QEMU's name of the driver.
        door: through which users from outside reach it.
        by_monitor: somebody added it by name and can delete it.
        kept: whoever opened it closes it; the graph only shows it.
        held: it stays while nobody uses it.
        children: what it uses.
        users: who uses it, the newest first.
        busy: why commands must leave it alone; empty otherwise.
        options: as given to ``blockdev-add``.
    """

    name: str
    node: BlockNode
    driver: str
    door: Door
    by_monitor: bool = False
    kept: bool = False
    held: bool = False
    children: list[User] = field(default_factory=list)
    users: list[User] = field(default_factory=list)
    busy: str = ""
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def access(self) -> Access:
        """Return what all users together need and share."""
        joined = Access()
        for user in self.users:
            joined = joined.joined(user.effective())
        return joined

    @property
    def shown_read_only(self) -> bool:
        """Whether it was asked for read-only; one that shows another node is not by itself.

        Whether it can be written is ``node.read_only``.
        """
        if self.driver == "mirror_top":
            return False
        if self.options and self.driver in ("raw", "blkdebug"):
            return bool(self.options.get("read-only", False))
        return self.node.read_only

    @property
    def is_root(self) -> bool:
        """Whether nothing of the graph stands on it."""
        return all(user.is_device for user in self.users)

    @property
    def is_unused(self) -> bool:
        """Whether nobody outside the graph uses it."""
        return not any(user.is_device for user in self.users)

    def child(self, role: str) -> "GraphNode | None":
        """Return the child of a role, if there is one."""
        return next((user.node for user in self.children if user.role == role), None)

    def require_not_busy(self) -> None:
        """Raise ``NodeError`` when a job is at work on it, or it is a backing node."""
        busy = self.busy
        for user in self.users:
            if user.part is Part.BACKING and user.above is not None:
                busy = busy or f"node is used as backing hd of '{user.above.name}'"
        if busy:
            raise NodeError(f"Node '{self.name}' is busy: {busy}")


class Graph:
    """All nodes with names.

    Attributes:
        closing: held while nodes that have gone are closed, and by who looks into nodes from a
            thread: what it found here is not closed under it.
    """

    def __init__(self) -> None:
        self.closing = asyncio.Lock()
        self._nodes: dict[str, GraphNode] = {}
        self._unused: list[GraphNode] = []
        self._numbers = itertools.count()
        self._random = random.Random()

    def __iter__(self) -> Iterator[GraphNode]:
        """All nodes, the newest first."""
        return iter(tuple(reversed(self._nodes.values())))

    def __contains__(self, name: str) -> bool:
        return name in self._nodes

    def find(self, name: str) -> GraphNode:
        """Return the node of a name.

        Raises:
            NodeError: there is none.
        """
        if name not in self._nodes:
            raise NodeError(f"Failed to find node with node-name='{name}'")
        return self._nodes[name]

    def find_device(self, name: str, device: str | None = None) -> GraphNode:
        """Return the node that a command means by a device's or node's name.

        Args:
            name: what was given; nodes are all there is.
            device: what the text of the refusal calls the device.

        Raises:
            NodeError: there is none.
        """
        if name not in self._nodes:
            device = name if device is None else device
            raise NodeError(f"Cannot find device='{device}' nor node-name='{name}'")
        return self._nodes[name]

    def check_new_name(self, name: str) -> None:
        """Raise ``NodeError`` unless a node may be given that name."""
        if not _NAME.fullmatch(name):
            raise NodeError(f"Invalid node-name: '{name}'")
        if name in self._nodes:
            raise NodeError(f"Duplicate nodes with node-name='{name}'")
        if len(name) > MAX_NAME:
            raise NodeError("Node name too long")

    def automatic_name(self) -> str:
        """Return a name for a node that was given none, as QEMU makes them."""
        while True:
            name = f"#block{next(self._numbers)}{self._random.randrange(100):02d}"
            if name not in self._nodes:
                return name

    # Coming and going.

    def add(self, node: GraphNode) -> GraphNode:
        """Show a node from now on; its name must be free."""
        assert node.name not in self._nodes
        self._nodes[node.name] = node
        return node

    def remove(self, node: GraphNode) -> None:
        """Show a node no longer, let go of its children, and of those that nobody else uses."""
        if self._nodes.get(node.name) is not node:
            return
        del self._nodes[node.name]
        if not node.kept:
            self._unused.append(node)
        for user in tuple(node.children):
            self.detach(user)

    def take_unused(self) -> list[GraphNode]:
        """Return what has gone and must be closed, parents first. It is the caller's now."""
        unused, self._unused = self._unused, []
        return unused

    def require_deletable(self, node: GraphNode) -> None:
        """Raise ``NodeError`` unless whoever added a node may delete it now."""
        if not node.is_unused:
            raise NodeError(f"Node {node.name} is in use")
        node.require_not_busy()
        if not node.by_monitor:
            raise NodeError(f"Node {node.name} is not owned by the monitor")
        if node.users:
            raise NodeError(f"Block device {node.name} is in use")

    # Using.

    def attach(self, user: User) -> User:
        """Let somebody use a node.

        Raises:
            NodeError: what it needs, or does not share, conflicts with another user's wishes.
        """
        node, above = user.node, user.above
        node.users.insert(0, user)
        if above is not None:
            above.children.append(user)
        try:
            self.check(node)
        except NodeError:
            self._forget(user)
            raise
        return user

    def detach(self, user: User) -> None:
        """Let go of a node, which goes as well when it was there for that user only."""
        self._forget(user)
        node = user.node
        if not node.users and not node.by_monitor and not node.held:
            self.remove(node)

    def _forget(self, user: User) -> None:
        if user in user.node.users:
            user.node.users.remove(user)
        if user.above is not None and user in user.above.children:
            user.above.children.remove(user)

    def move(self, users: list[User], node: GraphNode) -> None:
        """Let users of other nodes use this one instead, without a look at permissions."""
        for user in reversed(users):
            user.node.users.remove(user)
            user.node = node
            node.users.insert(0, user)

    def check(self, node: GraphNode) -> None:
        """Raise ``NodeError`` when the users of a node, or of one below, exclude each other."""
        accesses = [(user, user.effective()) for user in node.users]
        for one, has in accesses:
            for other, wants in accesses:
                missing = wants.need & ~has.share
                if one is not other and missing:
                    raise NodeError(_conflict(node, missing, other, one))
        if node.node.read_only and any(wants.need & _WRITING for _, wants in accesses):
            raise NodeError("Block node is read-only")
        for below in node.children:
            self.check(below.node)

    # For what was opened by others.

    def adopt(self, node: BlockNode, door: Door | None = None) -> GraphNode:
        """Show an open node, and those below it, under automatic names.

        Whoever opened it closes it, after ``give_up``.
        """
        top = self._adopt(node, door)
        top.held = True
        return top

    def _adopt(self, node: BlockNode, door: Door | None = None) -> GraphNode:
        below = [(role, part, self._adopt(child)) for role, part, child in _below(node)]
        door = Door(node) if door is None else door
        adopted = self.add(GraphNode(self.automatic_name(), node, node.driver, door, kept=True))
        for role, part, child in below:
            self._stand(adopted, role, part, child)
        return adopted

    def _stand(self, above: GraphNode, role: str, part: Part, child: GraphNode) -> None:
        user = User(child, role, f"node '{above.name}'", above=above, part=part)
        child.users.insert(0, user)
        above.children.append(user)

    def note_backing(self, node: GraphNode) -> None:
        """Show the backing node that was opened by ``open_backing`` since the node was added."""
        backing = node.node.backing
        if backing is None or node.child("backing") is not None:
            return
        known = next((one for one in self if one.node is inmost(backing)), None)
        self._stand(node, "backing", Part.BACKING, known or self._adopt(backing))

    def give_up(self, node: GraphNode) -> None:
        """Show an adopted node, and those below it, no longer."""
        node.held = False
        self.remove(node)


def inmost(node: BlockNode) -> BlockNode:
    """Return the node that a link, or a guard of the same image, leads to."""
    while isinstance(node, SharedNode | Door | ProbedRawGuard | GenericOptionsNode):
        node = node.child
    return node


def _below(node: BlockNode) -> Iterator[tuple[str, Part, BlockNode]]:
    """Yield what an open node stands on: role, part and node."""
    shown = inmost(node)
    backing = shown.backing
    if isinstance(shown, FilterNode):
        role = "image" if shown.driver == "blkdebug" else "file"
        yield role, Part.FILTERED, shown.child
        return
    for name in ("file", "data_file"):
        child = getattr(shown, name, None)
        if isinstance(child, BlockNode):
            yield name.replace("_", "-"), Part.FORMAT, child
    if backing is not None:
        yield "backing", Part.BACKING, backing


def _conflict(node: GraphNode, missing: Permission, wants: User, has: User) -> str:
    return (
        f"Permission conflict on node '{node.name}': permissions '{missing.text}' are both "
        f"required by {wants.who} (uses node '{node.name}' as '{wants.role}' child) and "
        f"unshared by {has.who} (uses node '{node.name}' as '{has.role}' child)."
    )


def from_outside(node: GraphNode, access: Access) -> User:
    """Return an export or the like as a user of a node; not attached yet."""
    return User(node, "root", A_DEVICE, access, is_device=True)


def shares_all(need: Permission = Permission.NONE) -> Access:
    """Return the access of who needs something and minds nothing."""
    return Access(need, ALL)
