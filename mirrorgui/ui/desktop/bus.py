"""A connection to the session's bus. Free of Qt; belongs to the loop.

Qt has one, too, but starts a bus where there is none, and blocks while it connects.
"""

import asyncio
import logging
import os
import stat
from collections.abc import Callable
from pathlib import Path

from jeepney.auth import BEGIN, Authenticator
from jeepney.bus import get_connectable_addresses
from jeepney.low_level import HeaderFields, Message, MessageType, Parser
from jeepney.wrappers import DBusAddress, new_method_call

logger = logging.getLogger(__name__)

PATIENCE_S = 5.0
"""How long an answer is waited for."""

_BUS = DBusAddress("/org/freedesktop/DBus", "org.freedesktop.DBus", "org.freedesktop.DBus")
_PIECE = 4096
"""Bytes read at once."""

Listener = Callable[[Message], None]


class BusError(Exception):
    """The bus, or who was called over it, did not answer, or refused."""


def session_socket() -> str | None:
    """Return where the session's bus listens, or None where there is none; nothing is started."""
    addresses = os.environ.get("DBUS_SESSION_BUS_ADDRESS")
    if addresses is not None:
        try:
            return str(next(get_connectable_addresses(addresses)))
        except (RuntimeError, ValueError) as error:  # no socket, or no address
            logger.info("no session bus at %r: %s", addresses, error)
            return None
    path = Path(os.environ.get("XDG_RUNTIME_DIR", "/nonexistent")) / "bus"
    try:
        own = stat.S_ISSOCK(path.stat().st_mode) and path.stat().st_uid == os.getuid()
    except OSError:
        return None
    return str(path) if own else None


class Bus:
    """Calls methods and hears signals.

    Args:
        heard: called with every signal, on the loop.
    """

    def __init__(self, heard: Listener) -> None:
        self._heard = heard
        self._serial = 0
        self._answers: dict[int, asyncio.Future[Message]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether calls can be made."""
        return self._writer is not None

    async def open(self, path: str) -> None:
        """Connect, prove who we are and say hello.

        Raises:
            BusError: nobody listens, or does not want us. Nothing is left open.
        """
        try:
            async with asyncio.timeout(PATIENCE_S):
                reader, self._writer = await asyncio.open_unix_connection(path)
                await self._authenticate(reader)
        except (OSError, TimeoutError, ValueError) as error:
            await self.close()
            raise BusError(f"no session bus at {path!r}: {error}") from error
        loop = asyncio.get_running_loop()
        self._reading = loop.create_task(self._read(reader))
        try:
            await self.call(_BUS, "Hello")
        except BusError:
            await self.close()
            raise

    async def _authenticate(self, reader: asyncio.StreamReader) -> None:
        assert self._writer is not None
        dialogue = Authenticator()
        for line in dialogue:
            self._writer.write(line)
            answer = await reader.readline()
            if not answer:
                raise ValueError("it hung up")
            dialogue.feed(answer)
        self._writer.write(BEGIN)

    async def listen(self, interface: str) -> None:
        """Have the signals of an interface sent to us.

        Raises:
            BusError: the bus refused.
        """
        await self.call(_BUS, "AddMatch", "s", (f"type='signal',interface='{interface}'",))

    async def call(
        self, address: DBusAddress, member: str, signature: str = "", body: tuple[object, ...] = ()
    ) -> tuple[object, ...]:
        """Call a method and return what it returns.

        Raises:
            BusError: it failed, or there was no answer.
        """
        if self._writer is None:
            raise BusError("not connected to a session bus")
        self._serial += 1
        serial = self._serial
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._answers[serial] = future
        message = new_method_call(address, member, signature or None, body)
        try:
            self._writer.write(message.serialise(serial))
            async with asyncio.timeout(PATIENCE_S):
                answer = await future
        except (OSError, TimeoutError) as error:
            raise BusError(f"no answer from {address.bus_name}") from error
        finally:
            self._answers.pop(serial, None)
        if answer.header.message_type is MessageType.error:
            name = answer.header.fields.get(HeaderFields.error_name)
            raise BusError(f"{name}: {answer.body}")
        return tuple(answer.body)

    async def close(self) -> None:
        """Leave the bus; calls that wait fail."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
            self._reading = None
        self._lost("closed")

    async def _read(self, reader: asyncio.StreamReader) -> None:
        parser, reason = Parser(), "closed by the bus"
        try:
            while data := await reader.read(_PIECE):
                for message in parser.feed(data):
                    self._arrived(message)
        except OSError as error:
            reason = str(error)
        except Exception as error:  # noqa: BLE001 - a border: what is no message shows in many ways
            reason = f"not understood: {error!r}"
        logger.info("session bus lost: %s", reason)
        self._lost(reason)

    def _arrived(self, message: Message) -> None:
        if message.header.message_type is MessageType.signal:
            self._heard(message)
            return
        future = self._answers.get(message.header.fields.get(HeaderFields.reply_serial, 0))
        if future is not None and not future.done():
            future.set_result(message)

    def _lost(self, reason: str) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        for future in self._answers.values():
            if not future.done():
                future.set_exception(OSError(reason))
