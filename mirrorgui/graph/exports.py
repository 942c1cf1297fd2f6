"""The NBD server of the graph: nodes offered to clients under export ids."""

import asyncio
import itertools
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass

from mirrorgui.blocking import in_thread
from mirrorgui.errors import NodeError
from mirrorgui.graph.nodes import Graph, GraphNode, User, from_outside, shares_all
from mirrorgui.graph.permissions import Access, of_export
from mirrorgui.mirror.events import EventLog
from mirrorgui.nbd.constants import MAX_STRING
from mirrorgui.nbd.export import Export
from mirrorgui.nbd.server import MAX_CONNECTIONS, NbdServer
from mirrorgui.nbd.uri import NbdAddress

logger = logging.getLogger(__name__)

_ID = re.compile(r"[A-Za-z][A-Za-z0-9\-._]*")

LEAVES_S = 5.0
"""How long the requests of a client that is being disconnected are waited for at a time."""

NOTICED_S = 0.2
"""Within this time it is noticed that a client has closed its connection."""


@dataclass(slots=True, eq=False)
class NodeExport:
    """A node that is offered to clients.

    Attributes:
        id: its name among exports.
        export: what the server offers.
        user: its claim on the node that it shows at the moment.
        server: offers it.
        shutting_down: its clients are being disconnected.
        gone: for one with a server of its own: called when it is offered no longer.
    """

    id: str
    export: Export
    user: User
    server: NbdServer
    shutting_down: bool = False
    gone: Callable[[], None] | None = None

    @property
    def node(self) -> GraphNode:
        """The node that it shows at the moment: a pivot puts another one there."""
        return self.user.node

    @property
    def has_own_server(self) -> bool:
        """Whether a mirror brought it, with a server that ends with it."""
        return self.gone is not None


class Exports:
    """All exports, and the server for those that are added by name.

    Args:
        graph: where their nodes are.
        events: where deletions are told.

    Concurrency: belongs to the event loop's thread.
    """

    def __init__(self, graph: Graph, events: EventLog) -> None:
        self._graph = graph
        self._events = events
        self._server: NbdServer | None = None
        self._exports: dict[str, NodeExport] = {}
        self._leaving: dict[asyncio.Task[None], NodeExport] = {}
        self._listeners: list[Callable[[], object]] = []

    def listen(self, listener: Callable[[], object]) -> Callable[[], None]:
        """Call ``listener`` when an export comes, begins to go or is gone; returns what ends it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def _changed(self) -> None:
        for listener in tuple(self._listeners):
            listener()

    @property
    def all(self) -> tuple[NodeExport, ...]:
        """All exports, the newest first."""
        return tuple(reversed(self._exports.values()))

    @property
    def server(self) -> NbdServer | None:
        """The server, while it runs."""
        return self._server

    async def start(self, address: NbdAddress, *, max_connections: int = 0) -> None:
        """Listen at an address, also where other machines can reach it: somebody has asked for it.

        Args:
            address: where.
            max_connections: 0 takes the default.

        Raises:
            NodeError: there is a server already.
            InvalidInput: the address cannot be listened on.
        """
        if self._server is not None:
            raise NodeError("NBD server already running")
        limit = max_connections or MAX_CONNECTIONS
        server = NbdServer(address, allow_remote=True, max_connections=limit)
        self._server = server
        try:
            await in_thread(server.start)
        except BaseException:
            self._server = None
            raise

    async def stop(self) -> None:
        """Disconnect its clients, forget its exports and listen no longer.

        Raises:
            NodeError: there is no server.
        """
        server = self._server
        if server is None:
            raise NodeError("NBD server not running")
        if not await in_thread(server.stop):
            logger.error("clients still wait for a node that hangs")
        self._server = None
        for export in self._of(server):
            # A node must not be closed under a request that hangs in it: its user stays.
            self._gone(export, stuck=server.is_used(export.export))
        leaving = [task for task, export in self._leaving.items() if export.server is server]
        if leaving:
            await asyncio.wait(leaving)

    def _of(self, server: NbdServer) -> list[NodeExport]:
        return [export for export in self._exports.values() if export.server is server]

    def add(
        self,
        export_id: str,
        node_name: str,
        *,
        name: str | None = None,
        description: str = "",
        writable: bool = False,
        writethrough: bool = False,
    ) -> NodeExport:
        """Offer a node to clients from now on.

        Args:
            export_id: its name among exports.
            node_name: the node.
            name: what clients ask for; the node's name by default.
            description: a text for people.
            writable: clients may write.
            writethrough: what they change is stable when they are answered.

        Raises:
            NodeError: a name is taken or makes no sense, the node has other users who do not allow
                it, or there is no server.
        """
        if not _ID.fullmatch(export_id):
            raise NodeError("Invalid block export id")
        if export_id in self._exports:
            raise NodeError(f"Block export id '{export_id}' is already in use")
        node = self._graph.find_device(node_name, "")
        if writable and node.shown_read_only:
            raise NodeError("Cannot export read-only node as writable")
        user = self._claim(node, of_export(writable=writable))
        name = node_name if name is None else name
        try:
            offered = Export(
                name,
                node.door,
                description=description,
                read_only=not writable,
                writethrough=writethrough,
            )
            server = self._offer(offered)
        except NodeError:
            self._graph.detach(user)
            raise
        return self._show(NodeExport(export_id, offered, user, server))

    def adopt(
        self,
        export_id: str,
        node: GraphNode,
        offered: Export,
        server: NbdServer,
        *,
        gone: Callable[[], None],
    ) -> NodeExport:
        """Show what a server of its own offers already, until it is removed or its node closed.

        Args:
            export_id: its name among exports; with a number behind it when that one is taken.
            node: what it shows.
            offered: the export, of ``server``.
            server: stopped when the export is removed.
            gone: called when it is offered no longer.

        Raises:
            NodeError: the node has other users who do not allow it.
        """
        numbered = (f"{export_id}-{number}" for number in itertools.count(1))
        names = itertools.chain((export_id,), numbered)
        free = next(name for name in names if name not in self._exports)
        writable = not (offered.read_only or node.node.read_only)
        user = self._graph.attach(from_outside(node, of_export(writable=writable)))
        return self._show(NodeExport(free, offered, user, server, gone=gone))

    def _show(self, export: NodeExport) -> NodeExport:
        self._exports[export.id] = export
        self._changed()
        return export

    def _claim(self, node: GraphNode, access: Access) -> User:
        """Use a node; what is needed is asked for before what is not shared, as QEMU does it."""
        user = self._graph.attach(from_outside(node, shares_all(access.need)))
        user.access = access
        try:
            self._graph.check(node)
        except NodeError:
            self._graph.detach(user)
            raise
        return user

    def _offer(self, export: Export) -> NbdServer:
        server = self._server
        if server is None:
            raise NodeError("NBD server not running")
        for what, text in (("export name", export.name), ("description", export.description)):
            if len(text.encode()) > MAX_STRING:
                raise NodeError(f"{what} '{text}' too long")
        if any(one.export.name == export.name for one in self._of(server)):
            raise NodeError(f"NBD server already has export named '{export.name}'")
        server.add_export(export)
        return server

    async def remove(self, export_id: str, *, hard: bool = False) -> None:
        """Offer a node no longer.

        Args:
            export_id: which export.
            hard: disconnect its clients; their requests in service are finished first, and when
                that takes long the export is still listed as shutting down.

        Raises:
            NodeError: there is no such export, or it has clients.
        """
        export = self._exports.get(export_id)
        if export is None:
            raise NodeError(f"Export '{export_id}' is not found")
        if export.shutting_down:
            raise NodeError(f"Export '{export_id}' is already shutting down")
        if not hard and not await self._is_left(export):
            raise NodeError(f"export '{export_id}' still in use")
        export.shutting_down = True
        self._changed()
        leaving = asyncio.get_running_loop().create_task(self._leave(export))
        self._leaving[leaving] = export
        leaving.add_done_callback(self._leaving.pop)
        await asyncio.wait({leaving}, timeout=LEAVES_S)

    async def _is_left(self, export: NodeExport) -> bool:
        """Whether no client uses it; one that has just closed its connection does not."""
        server = export.server
        if not server.is_used(export.export):
            return True
        return await in_thread(lambda: server.wait_left(export.export, NOTICED_S))

    async def _leave(self, export: NodeExport) -> None:
        server, offered = export.server, export.export
        left = await in_thread(
            lambda: server.remove_export(offered.name, force=True, timeout_s=LEAVES_S)
        )
        while not left:
            logger.warning("export still serves requests id=%s", export.id)
            left = await in_thread(lambda: server.wait_left(offered, LEAVES_S))
        if export.has_own_server:
            await in_thread(server.stop)
        self._gone(export)

    def _gone(self, export: NodeExport, *, stuck: bool = False) -> None:
        if self._exports.pop(export.id, None) is not None:
            if not stuck:
                self._graph.detach(export.user)
            if export.gone is not None:
                export.gone()
            self._events.emit("BLOCK_EXPORT_DELETED", id=export.id)
            self._changed()

    async def evict(self, nodes: list[GraphNode]) -> None:
        """Remove every export of some nodes, clients or not."""
        for export in self.all:
            if export.node in nodes and not export.shutting_down:
                await self.remove(export.id, hard=True)
