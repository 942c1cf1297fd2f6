"""One client of a monitor: its greeting, its negotiation, its commands in order, and its events."""

import asyncio
import contextlib
import logging

from mirrorgui.qmp import wire
from mirrorgui.qmp.dispatch import NEGOTIATE, Dispatcher, check_arguments
from mirrorgui.qmp.errors import ErrorClass, QmpError
from mirrorgui.qmp.parser import JsonStream, Parsed
from mirrorgui.qmp.wire import Request
from mirrorgui.units import KiB, MiB

logger = logging.getLogger(__name__)

READ_SIZE = 64 * KiB
"""Bytes taken at once; no more is read before all of their commands are answered."""

MAX_UNREAD = 8 * MiB
"""What may wait for a client that does not read: some 50 000 events. Then it is disconnected."""

_HTTP = (b"GET ", b"POST ", b"PUT ", b"HEAD ", b"OPTIONS ", b"DELETE ", b"PATCH ", b"CONNECT ")
"""A web page can make a browser send a request to a port of this machine, with commands in it."""


class Client:
    """A connection.

    Args:
        name: who it is, for the log.
        reader, writer: its stream.
        dispatcher: carries out its commands.
        is_tcp: it came by a port, which browsers can reach as well.
    """

    def __init__(
        self,
        name: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        dispatcher: Dispatcher,
        *,
        is_tcp: bool = False,
    ) -> None:
        self.name = name
        self._reader = reader
        self._writer = writer
        self._dispatcher = dispatcher
        self._is_tcp = is_tcp
        self._stream = JsonStream()
        self._negotiated = False
        self._oob = False
        self._cut = False

    async def serve(self) -> None:
        """Greet, and answer until the client goes."""
        self._send(wire.greeting())
        is_first = True
        try:
            while data := await self._reader.read(READ_SIZE):
                if is_first and self._is_tcp and data.startswith(_HTTP):
                    logger.warning("qmp client=%s cut: it speaks HTTP", self.name)
                    return
                is_first = False
                for parsed in self._stream.feed(data):
                    await self._answer(parsed)
                    await self._writer.drain()
        except ConnectionError as error:
            logger.debug("qmp client=%s gone: %s", self.name, error)

    def tell(self, line: bytes) -> None:
        """Send an event, unless the client has not negotiated yet."""
        if self._negotiated:
            self._send(line)

    async def close(self, timeout_s: float) -> None:
        """Send what waits to be sent, and disconnect."""
        self._writer.close()
        try:
            with contextlib.suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(timeout_s):
                    await self._writer.wait_closed()
        finally:
            self._writer.transport.abort()

    async def _answer(self, parsed: Parsed) -> None:
        if parsed.error is not None:
            self._send(wire.refusal(parsed.error, wire.NO_ID))
            return
        request_id = wire.id_of(parsed.value)
        try:
            request = wire.read_request(parsed.value, oob=self._oob)
            result = await self._execute(request)
        except QmpError as error:
            self._send(wire.refusal(error, request_id))
        else:
            self._send(wire.reply(result, request_id))

    async def _execute(self, request: Request) -> object:
        logger.debug("qmp client=%s --> %s %s", self.name, request.name, request.arguments)
        if not self._negotiated and request.name != NEGOTIATE:
            text = f"Expecting capabilities negotiation with '{NEGOTIATE}'"
            raise QmpError(text, ErrorClass.COMMAND_NOT_FOUND)
        if request.is_oob:
            if request.name != NEGOTIATE:
                self._dispatcher.require(request.name)
            raise QmpError(f"The command {request.name} does not support OOB")
        if request.name == NEGOTIATE:
            return self._negotiate(request)
        return await self._dispatcher.execute(request.name, request.arguments)

    def _negotiate(self, request: Request) -> object:
        enabled = check_arguments(NEGOTIATE, request.arguments)["enable"]
        if self._negotiated:
            text = "Capabilities negotiation is already complete, command ignored"
            raise QmpError(text, ErrorClass.COMMAND_NOT_FOUND)
        self._negotiated = True
        self._oob = "oob" in enabled
        return {}

    def _send(self, line: bytes) -> None:
        if self._cut or self._writer.is_closing():
            return
        # What is sent now does not count: a long answer is no sign of a client that does not read.
        waiting = self._writer.transport.get_write_buffer_size()
        if waiting > MAX_UNREAD:
            self._cut = True
            logger.warning("qmp client=%s cut: %d bytes wait for it to read", self.name, waiting)
            self._writer.transport.abort()
            return
        self._writer.write(line)
