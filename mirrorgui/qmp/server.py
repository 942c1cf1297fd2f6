"""The monitor: listens, serves its clients, tells all of them every event."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping

from mirrorgui.mirror.events import JobEvent
from mirrorgui.nbd.transport import peer_name
from mirrorgui.qmp import wire
from mirrorgui.qmp.address import Address
from mirrorgui.qmp.client import Client
from mirrorgui.qmp.dispatch import Arguments, Dispatcher, Handler, House
from mirrorgui.qmp.introspection import describe_commands
from mirrorgui.qmp.sockets import Listening

logger = logging.getLogger(__name__)

MAX_CLIENTS = 32
"""Connections at once; each may hold some MiB."""

GRACE_S = 5.0
"""How long a command that is being carried out may take once the monitor is to end."""

FAREWELL_S = 1.0
"""How long a client may take to read what was said last."""


class QmpServer:
    """A monitor on one address, for one house.

    Args:
        house: what the commands work on.
        address: where to listen.
        quit: carries out ``quit``; its reply is sent when it has returned.

    Concurrency: belongs to the event loop's thread.
    """

    def __init__(
        self, house: House, address: Address, *, quit: Callable[[], Awaitable[None]]
    ) -> None:
        self._house = house
        self._address = address
        self._quit = quit
        self._dispatcher = Dispatcher(house, self._own())
        self._listening: Listening | None = None
        self._servers: list[asyncio.Server] = []
        self._clients: dict[Client, asyncio.Task[None]] = {}
        self._forget_events: Callable[[], None] | None = None
        self._count = 0

    @property
    def address(self) -> Address:
        """Where it listens; with the port that was taken, once it does."""
        return self._listening.address if self._listening is not None else self._address

    async def start(self) -> None:
        """Listen.

        Raises:
            InvalidInput: the address cannot be listened on; nothing stays open.
        """
        self._listening = Listening(self._address)
        self._forget_events = self._house.events.listen(self._tell)
        for sock in self._listening.sockets:
            self._servers.append(await asyncio.start_server(self._connected, sock=sock))
        logger.info("qmp listens address=%s", self.address)

    async def close(self) -> None:
        """Stop listening, let the command that is being carried out end, disconnect everybody.

        Idempotent. The house stays as it is.
        """
        if self._listening is None:
            return
        for server in self._servers:
            server.close()
        self._listening.close()
        self._listening = None
        await self._dispatcher.stop(GRACE_S)
        clients = dict(self._clients)
        for task in clients.values():
            task.cancel()
        await asyncio.gather(*clients.values(), return_exceptions=True)
        for client in tuple(self._clients):  # a task that is cancelled before it began never runs
            await client.close(FAREWELL_S)
        self._clients.clear()
        if self._forget_events is not None:
            self._forget_events()
        logger.info("qmp ended address=%s", self._address)

    def _own(self) -> Mapping[str, Handler]:
        """Return the handlers that need no house."""

        async def quit_now(_house: House, _args: Arguments) -> object:
            await self._quit()
            return {}

        async def query_version(_house: House, _args: Arguments) -> object:
            return wire.version()

        async def query_commands(_house: House, _args: Arguments) -> object:
            return [{"name": name} for name in self._dispatcher.names]

        async def query_schema(_house: House, _args: Arguments) -> object:
            return describe_commands(self._dispatcher.names)

        return {
            "quit": quit_now,
            "query-version": query_version,
            "query-commands": query_commands,
            "query-qmp-schema": query_schema,
        }

    def _tell(self, event: JobEvent) -> None:
        if self._clients:
            line = wire.event_line(event)
            for client in tuple(self._clients):
                client.tell(line)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sock: socket.socket = writer.get_extra_info("socket")
        self._count += 1
        name = f"{self._count} {_peer(sock)}"
        if self._listening is None or len(self._clients) >= MAX_CLIENTS:
            logger.warning("qmp client=%s refused: %d are connected", name, len(self._clients))
            writer.transport.abort()
            return
        is_tcp = sock.family != socket.AF_UNIX
        client = Client(name, reader, writer, self._dispatcher, is_tcp=is_tcp)
        logger.info("qmp client=%s connected", name)
        self._clients[client] = asyncio.create_task(self._serve(client), name=f"qmp {name}")

    async def _serve(self, client: Client) -> None:
        try:
            await client.serve()
        finally:
            try:
                await client.close(FAREWELL_S)
            finally:
                self._clients.pop(client, None)
                logger.info("qmp client=%s disconnected", client.name)


def _peer(sock: socket.socket) -> str:
    # The name of an event loop's socket: it has no getpeername of its own, but the same options.
    try:
        return peer_name(sock)
    except OSError:  # it has already gone
        return "unknown"
