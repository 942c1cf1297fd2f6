"""The two ends of a mirror: where they come from, and what becomes of them afterwards.

Images that were opened by name for one mirror are closed with it; nodes of the graph stay there.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence

from mirrorgui.block.findings import Finding
from mirrorgui.block.node import BlockNode
from mirrorgui.blocking import in_thread
from mirrorgui.graph.doors import Door
from mirrorgui.graph.nodes import Graph, GraphNode
from mirrorgui.graph.placing import Placement
from mirrorgui.pair import OpenPair, remove_created
from mirrorgui.request import MirrorRequest

logger = logging.getLogger(__name__)


class Ends(ABC):
    """Both ends of one mirror, in their places.

    Attributes:
        placement: where the mirror stands in the graph.
        warnings: what a person should know before the start.
        created: the target file was made for this mirror.
        owned: both images are there for this mirror only, and stay open until they are released.

    Concurrency: belongs to the event loop's thread.
    """

    placement: Placement
    warnings: tuple[Finding, ...] = ()
    created: bool = False
    owned: bool = False

    @property
    def source(self) -> BlockNode:
        """The image that guests use at first."""
        return self.placement.source.node

    @property
    def target(self) -> BlockNode:
        """The image that is copied to."""
        return self.placement.target.node

    def conclude(self) -> None:
        """The job has concluded: take its filter away. Idempotent."""
        self.placement.leave()

    @abstractmethod
    async def release_unused(self, *, switched: bool) -> None:
        """Let go of the image that guests do not use once the job has concluded."""

    @abstractmethod
    async def release(self) -> None:
        """Let go of both images. Nobody is inside any more."""

    @abstractmethod
    def delete_created(self) -> bool:
        """Delete the target if it was made for this mirror; say whether. Blocks."""


class OpenedEnds(Ends):
    """Images that were opened for one mirror, shown in the graph under automatic names.

    Args:
        request: what was asked for.
        pair: the images; closed by ``release``.
        graph: where they are shown.
        evict: ends what others do with nodes that are to be closed.
    """

    owned = True

    def __init__(
        self,
        request: MirrorRequest,
        pair: OpenPair,
        graph: Graph,
        evict: Callable[[Sequence[GraphNode]], Awaitable[None]] | None = None,
    ) -> None:
        self._request = request
        self._pair = pair
        self._graph = graph
        self._evict = evict
        self.warnings = pair.warnings
        self.created = pair.created is not None
        source = graph.adopt(pair.source, Door(pair.source))
        target = graph.adopt(pair.target)
        job_id = request.options.job_id
        self.placement = Placement(graph, source, target, job_id=job_id)

    @property
    def source(self) -> BlockNode:
        """See ``Ends``."""
        return self._pair.source

    @property
    def target(self) -> BlockNode:
        """See ``Ends``."""
        return self._pair.target

    async def release_unused(self, *, switched: bool) -> None:
        """See ``Ends``."""
        placement = self.placement
        await self._close([placement.source if switched else placement.target])

    async def release(self) -> None:
        """See ``Ends``."""
        self.conclude()
        await self._close([self.placement.source, self.placement.target])

    async def _close(self, nodes: list[GraphNode]) -> None:
        if self._evict is not None:
            await self._evict(nodes)
        free = [node for node in nodes if node.is_unused]
        for node in nodes:
            self._graph.give_up(node)
            if node not in free:
                # Closing it under a request could let its descriptor's number become another's.
                logger.error("clients still wait for %s; it stays open", node.node.name)
        async with self._graph.closing:
            await in_thread(lambda: [node.node.close() for node in free])

    def delete_created(self) -> bool:
        """See ``Ends``."""
        return remove_created(self._request, self._pair.created)


class GraphEnds(Ends):
    """Nodes of the graph, which outlive the mirror.

    Args:
        placement: where it stands.
        settle: closes nodes that nobody uses any more.
    """

    def __init__(self, placement: Placement, settle: Callable[[], Awaitable[None]]) -> None:
        self.placement = placement
        self._settle = settle

    async def release_unused(self, *, switched: bool) -> None:  # noqa: ARG002
        """See ``Ends``: whoever added a node deletes it."""
        await self._settle()

    async def release(self) -> None:
        """See ``Ends``: whoever added a node deletes it."""
        self.conclude()
        await self._settle()

    def delete_created(self) -> bool:
        """See ``Ends``: commands leave what they have created."""
        return False
