"""Everything that runs in this process: nodes, mirrors and other jobs, exports.

The window, ``run`` and QMP work in one house, so that each sees what the others have begun.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

from mirrorgui.block.findings import Finding, refuse_if_unsafe
from mirrorgui.block.node import BlockNode
from mirrorgui.block.safety import check_overwriting
from mirrorgui.block.walk import identity_of
from mirrorgui.blocking import in_thread
from mirrorgui.ends import GraphEnds
from mirrorgui.errors import ImageRefused, InvalidInput, NodeError
from mirrorgui.graph.building import Builder, Built, Shared, part_of
from mirrorgui.graph.doors import Door, Link
from mirrorgui.graph.exports import Exports
from mirrorgui.graph.jobs import Job
from mirrorgui.graph.nodes import Graph, GraphNode, User
from mirrorgui.graph.permissions import Access
from mirrorgui.graph.placing import Placement
from mirrorgui.mirror.events import EventLog, JobEvent
from mirrorgui.mirror.states import JobStatus
from mirrorgui.request import MirrorRequest
from mirrorgui.session import MirrorSession, too_fine

logger = logging.getLogger(__name__)


Listener = Callable[[MirrorSession], object]


class House:
    """The nodes, jobs and exports of this process.

    Attributes:
        events: every event of every job and export, in the order in which they happen.
        graph: the nodes.
        exports: everything that is offered over NBD.

    Concurrency: belongs to the event loop's thread. ``add_node`` and ``delete_node`` come one at a
    time, as QMP's commands do.
    """

    def __init__(self) -> None:
        self.events = EventLog()
        self.graph = Graph()
        self.exports = Exports(self.graph, self.events)
        self._jobs: dict[str, Job] = {}
        self._sessions: dict[str, MirrorSession] = {}
        self._open: list[MirrorSession] = []
        self._expected: set[str] = set()
        self._listeners: list[Listener] = []
        self._settling: set[asyncio.Task[None]] = set()

    # Jobs.

    @property
    def jobs(self) -> tuple[Job, ...]:
        """All jobs that are not gone, the oldest first."""
        return tuple(self._jobs.values())

    def job(self, job_id: str) -> Job | None:
        """Return a job by its name."""
        return self._jobs.get(job_id)

    def mirror(self, job_id: str) -> MirrorSession | None:
        """Return a mirror by its job's name, while the job is not gone."""
        return self._sessions.get(job_id)

    @property
    def mirrors(self) -> tuple[MirrorSession, ...]:
        """All mirrors whose job is not gone, the oldest first."""
        return tuple(self._sessions.values())

    def require_free(self, job_id: str) -> None:
        """Raise ``InvalidInput`` when a job of that name is there."""
        if job_id in self._jobs or job_id in self._expected:
            raise InvalidInput("job-id", job_id, f"Job ID '{job_id}' already in use")

    def add_job(self, job: Job) -> None:
        """Let everybody know of a job, until it is gone."""
        self._jobs[job.job_id] = job

        def heard(event: JobEvent) -> None:
            self.events.pass_on(event)
            if event.data.get("status") == JobStatus.NULL.value:
                self._jobs.pop(job.job_id, None)
                self._sessions.pop(job.job_id, None)
            elif event.data.get("status") == JobStatus.CONCLUDED.value:
                self._settle_soon()

        for event in job.events.since(0)[0]:
            heard(event)
        job.events.listen(heard)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` for every mirror that a command begins; returns what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    # Mirrors.

    async def open(self, request: MirrorRequest) -> MirrorSession:
        """Open both ends of a mirror by name, as ``MirrorSession.open`` does.

        Raises:
            InvalidInput: refused; nothing was touched.
        """
        job_id = request.options.job_id
        self.require_free(job_id)
        self._expected.add(job_id)
        try:
            session = await MirrorSession.open(request, graph=self.graph, evict=self._evict)
        finally:
            self._expected.discard(job_id)
        try:
            self._show_offer(session)
        except NodeError:
            await session.close()
            session.delete_incomplete_target()
            raise
        self._take_in(session)
        return session

    def _show_offer(self, session: MirrorSession) -> None:
        """List a mirror's own export among all others."""
        offer, source = session.offer, session.ends.placement.source
        if offer is not None:
            job_id, gone = session.job.job_id, session.forget_offer
            self.exports.adopt(job_id, source, offer.export, offer.server, gone=gone)

    async def look(self, source: GraphNode, target: GraphNode) -> list[Finding]:
        """Find out whether a mirror between two nodes would destroy what it must not.

        Image locks do not see everything: they can be off, and file systems have none.

        Returns:
            What forbids it, for ``begin``.
        """
        async with self.graph.closing:
            return await in_thread(lambda: check_overwriting(source.node, target.node))

    def begin(
        self,
        request: MirrorRequest,
        source: GraphNode,
        target: GraphNode,
        *,
        found: Sequence[Finding],
        filter_name: str = "",
        replaces: GraphNode | None = None,
    ) -> MirrorSession:
        """Begin a mirror between two nodes; what forbids it has been asked for.

        Args:
            request: what it is called and how it is done.
            source: the node whose users are served meanwhile.
            target: the node to copy to.
            found: what ``look`` has found about them.
            filter_name: name of the filter above the source.
            replaces: the node that the target replaces at the end; the source by default.

        Raises:
            NodeError: other users of the nodes do not allow it.
            ImageRefused: the target's bytes are needed elsewhere.
            InvalidInput: the job's name is taken, or it needs too much memory. Nothing has changed.
        """
        job_id = request.options.job_id
        self.require_free(job_id)
        placement = Placement(
            self.graph, source, target, job_id=job_id, filter_name=filter_name, replaces=replaces
        )
        try:
            refuse_if_unsafe(found, {"source": source.name, "target": target.name})
            session = MirrorSession(request, GraphEnds(placement, self.settle))
        except ImageRefused:
            placement.leave()
            raise
        except MemoryError:
            placement.leave()
            raise too_fine(request, source.node.size) from None
        self._take_in(session)
        for listener in tuple(self._listeners):
            listener(session)
        session.start()
        return session

    def _take_in(self, session: MirrorSession) -> None:
        self._open = [one for one in self._open if not one.closed]
        self._open.append(session)
        self._sessions[session.job.job_id] = session
        self.add_job(session.job)

    async def _evict(self, nodes: Sequence[GraphNode]) -> None:
        """End what others do with nodes that are about to be closed."""
        for session in tuple(self._open):
            ends = session.ends.placement
            if not session.ends.owned and (ends.source in nodes or ends.target in nodes):
                await session.close()
        await self.exports.evict(list(nodes))

    # Nodes.

    async def add_node(
        self,
        options: Mapping[str, Any],
        *,
        by_monitor: bool = True,
        target_of: GraphNode | None = None,
    ) -> GraphNode:
        """Open an image and the nodes that it stands on, as ``blockdev-add`` says.

        Args:
            options: of ``blockdev-add``.
            by_monitor: it stays until it is deleted; otherwise until nobody uses it.
            target_of: the source of a mirror that it is opened for: the backing file that it names
                is opened when that is completed, and may be one of the source's chain.

        Raises:
            NodeError: a name is taken, makes no sense or leads nowhere; or other users of a child
                do not allow it.
            InvalidInput: an option is wrong or an image cannot be used. Nothing has changed.
        """
        await self.settle()
        self._check_children(options)
        later = None if target_of is None else _chain_of(target_of)
        builder = Builder(self._reach, self.graph.check_new_name, self.graph.automatic_name)
        made = await in_thread(
            lambda: builder.build(options, later=later), undo=lambda _: builder.undo()
        )
        added: list[GraphNode] = []
        try:
            added += [self._show(built) for built in builder.built]
            for built, node in zip(builder.built, added, strict=True):
                self._connect(built, node)
        except NodeError:
            for node in added:
                node.kept = True  # the builder closes them
            for node in reversed(added):
                self.graph.remove(node)
            await in_thread(builder.undo)
            raise
        node = self.graph.find(made.name)
        node.by_monitor = by_monitor
        return node

    def _check_children(self, options: Mapping[str, Any]) -> None:
        """Refuse before anything is opened what the users of the children would not allow."""
        if options["driver"] != "qcow2" or not isinstance(options["file"], str):
            return
        if options["file"] not in self.graph:
            return
        access = part_of(options, "file").pass_on(
            Access(), writable=not options.get("read-only", False)
        )
        child = self.graph.find(options["file"])
        user = User(child, "file", f"node '{options.get('node-name', '')}'", access)
        self.graph.attach(user)
        user.node.users.remove(user)

    def _reach(self, name: str) -> Any:  # noqa: ANN401 - a node, or None
        if name not in self.graph:
            return None
        node = self.graph.find(name)
        # What is written to the source of a mirror must be seen by it.
        return node.door if node.busy else node.node

    def _show(self, built: Built) -> GraphNode:
        return self.graph.add(
            GraphNode(
                built.name,
                built.node,
                str(built.options["driver"]),
                Door(built.node),
                options=MappingProxyType(dict(built.options)),
            )
        )

    def _connect(self, built: Built, node: GraphNode) -> None:
        for child in built.children:
            self.graph.attach(
                User(
                    self.graph.find(child.name),
                    child.role,
                    f"node '{node.name}'",
                    child.access,
                    above=node,
                    part=child.part,
                    link=child.link,
                )
            )

    async def delete_node(self, name: str) -> None:
        """Close a node that was added by name, and what it stands on unless others use that.

        Raises:
            NodeError: there is none, or it is in use.
        """
        node = self.graph.find(name)
        self.graph.require_deletable(node)
        self.graph.remove(node)
        await self.settle()

    async def settle(self) -> None:
        """Close the nodes that nobody uses any more; return when all of them are closed."""
        async with self.graph.closing:
            unused = self.graph.take_unused()
            if not unused:
                return
            for session in self._open:
                await session.looked()
            await in_thread(lambda: [node.node.close() for node in unused])

    @contextlib.asynccontextmanager
    async def looking(self) -> AsyncIterator[tuple[GraphNode, ...]]:
        """Return all nodes; none of them is closed within the block."""
        async with self.graph.closing:
            yield tuple(self.graph)

    def _settle_soon(self) -> None:
        """Close what a job has left behind when it was there for that job only."""
        task = asyncio.get_running_loop().create_task(self.settle())
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    # The end.

    async def close(self) -> None:
        """Cancel jobs promptly, stop exports and their server, close nodes. Idempotent."""
        for job in self.jobs:
            with contextlib.suppress(NodeError):
                await job.shut_down()
        if self.exports.server is not None:
            await self.exports.stop()
        for session in self._open:
            await session.close()
        self._open = []
        for node in self.graph:
            node.by_monitor = False
        for node in self.graph:
            if not node.users:
                self.graph.remove(node)
        await self.settle()
        if self._settling:
            await asyncio.wait(self._settling)


def _chain_of(node: GraphNode) -> Shared:
    """Return links to a node and those below it in its backing chain, by their files."""
    chain: dict[object, Callable[[], BlockNode]] = {}
    layer: GraphNode | None = node
    while layer is not None:
        image = layer.node
        chain.setdefault(identity_of(image), partial(Link, image))
        layer = layer.child("backing")
    return chain
