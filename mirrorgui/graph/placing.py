"""A mirror's place in the graph: the filter above its source, its claims, and the pivot."""

import logging

from mirrorgui.errors import JobFailed, NodeError
from mirrorgui.graph.doors import Door
from mirrorgui.graph.nodes import Graph, GraphNode, User, from_outside
from mirrorgui.graph.permissions import OF_MIRROR, OF_MIRROR_SOURCE, OF_MIRROR_TARGET, Part

logger = logging.getLogger(__name__)

BUSY = "block device is in use by block job: mirror"


def require_root(node: GraphNode) -> None:
    """Raise ``NodeError`` when something of the graph stands on a mirror's source."""
    if not node.is_root:
        raise NodeError("Need a root block node")


def require_not_busy(source: GraphNode, target: GraphNode) -> None:
    """Raise ``NodeError`` when a job or an overlay does not let a mirror use one of its ends."""
    source.require_not_busy()
    target.require_not_busy()


def unfiltered(node: GraphNode) -> GraphNode:
    """Return the node that one shows as it is, whatever filters are in between."""
    while node.driver == "blkdebug" and (below := node.child("image")) is not None:
        node = below
    return node


def check_replaces(graph: Graph, source: GraphNode, name: str) -> GraphNode:
    """Return the node that the target is to replace at the end, instead of the source.

    Raises:
        NodeError: there is none, or its users would not see the same bytes afterwards.
    """
    node = graph.find(name)
    node.require_not_busy()
    below: GraphNode | None = source
    while below is not None and below is not node:
        # Only a filter shows what is below it as it is, whatever happens to it.
        below = below.child("image") if below.driver == "blkdebug" else None
    if below is None:
        raise NodeError(
            f"Cannot replace '{name}' by a node mirrored from '{source.name}', because it cannot "
            "be guaranteed that doing so would not lead to an abrupt change of visible data"
        )
    return node


class Placement:
    """Where a mirror stands, from its start until it has concluded.

    Args:
        graph: where.
        source: a root node; its door becomes the mirror's drive.
        target: the node to copy to.
        job_id: the job's name.
        filter_name: the name of the filter above the source; automatic by default.
        replaces: the node that the target replaces at the end, see ``check_replaces``.

    Attributes:
        drive: what guests of the source go through.

    Raises:
        NodeError: other users do not allow it. Nothing has changed.

    Concurrency: belongs to the event loop's thread.
    """

    def __init__(
        self,
        graph: Graph,
        source: GraphNode,
        target: GraphNode,
        *,
        job_id: str,
        filter_name: str = "",
        replaces: GraphNode | None = None,
    ) -> None:
        self._graph = graph
        self.source, self.target = source, target
        self.drive: Door = source.door
        self._replaces = replaces
        self._filter = GraphNode(
            filter_name or graph.automatic_name(), self.drive, "mirror_top", self.drive
        )
        self._filter.busy = BUSY
        self._filter.kept = self._filter.held = True  # its node is the source's door
        self._claims: list[User] = []
        self._inside = False
        self._enter(f"mirror job '{job_id}'")

    def _enter(self, who: str) -> None:
        graph, above = self._graph, self._filter
        guests = list(self.source.users)
        graph.add(above)
        graph.move(guests, above)
        name = f"node '{above.name}'"
        claims = [
            User(self.source, "backing", name, above=above, part=Part.FILTERED),
            User(above, "main node", who, OF_MIRROR),
            User(self.source, "source", who, OF_MIRROR_SOURCE),
            User(self.target, "target", who),
            from_outside(self.target, OF_MIRROR_TARGET),
        ]
        try:
            for claim in claims:
                self._claims.append(claim)
                graph.attach(claim)
        except NodeError:
            self._withdraw()
            raise
        self._inside = True
        self.source.busy = self.target.busy = BUSY

    def pivot(self) -> None:
        """Put the target in the place of the source. Guests are held meanwhile.

        Raises:
            JobFailed: the users of the source and those of the target exclude each other; all of
                them stay where they are.
        """
        graph = self._graph
        graph.note_backing(self.target)
        replaced = self._replaces or self.source
        moving = [user for user in replaced.users if self._moves(user)]
        if replaced is self.source:
            moving = [user for user in self._filter.users if self._moves(user)] + moving
        before = [(user, user.node) for user in moving]
        own = self._claims[-1]
        self.target.users.remove(own)  # what it does not share must not stand against the move
        graph.move(moving, self.target)
        try:
            graph.check(self.target)
        except NodeError as error:
            logger.warning("job cannot switch reason=%s", error)
            for user, node in reversed(before):
                graph.move([user], node)
            self.target.users.insert(0, own)
            raise JobFailed("Operation not permitted") from error
        self.target.users.append(own)  # until the job has concluded
        self._lead(replaced, moving)

    def _moves(self, user: User) -> bool:
        """Whether it is not the job itself, nor the target, which may stand on the source."""
        return user not in self._claims and user.above is not self.target

    def _lead(self, replaced: GraphNode, moving: list[User]) -> None:
        """Let requests go where the users have gone."""
        for user in moving:
            if user.link is not None and not isinstance(user.link.child, Door):
                user.link.lead_to(self.target.node)
        door = replaced.door
        door.exchange(self.target.node)
        # The target's own door has no users: nobody may read a target while it is written.
        self.target.door = door
        replaced.door = Door(replaced.node)

    def leave(self) -> None:
        """Take the filter away; users of it use the source again, unless they have moved."""
        if not self._inside:
            return
        self._inside = False
        self.source.busy = self.target.busy = ""
        self._withdraw()

    def _withdraw(self) -> None:
        graph = self._graph
        for claim in reversed(self._claims):
            if claim.above is None:
                graph.detach(claim)
        graph.move(list(self._filter.users), self.source)
        graph.give_up(self._filter)
