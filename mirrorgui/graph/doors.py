"""How the users of a node reach it: the door of those outside, and the links of nodes above."""

from mirrorgui.block.children import SharedNode
from mirrorgui.block.node import BlockNode
from mirrorgui.mirror.drive import Drive


class Door(Drive):
    """The guest's front door of a node in the graph.

    Exports and mirrors of a node go through one door; a pivot puts another node behind it, and
    they follow.
    """

    @property
    def child(self) -> BlockNode:
        """The node behind, for those who look for the file that stores it."""
        return self.node


class Link(SharedNode):
    """What a node above holds of a child: it can be led to another node while it is open.

    Args:
        child: the child, or the door of a child whose writes are being tracked.
    """

    def lead_to(self, node: BlockNode) -> None:
        """Go to another node of the same length from now on. Nobody may be inside."""
        self.child = node
        self.limits = node.limits
        self.backing = node.backing
        self.reads_wait, self.writes_wait = node.reads_wait, node.writes_wait
