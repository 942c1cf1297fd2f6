"""A connection to the session's bus. Free of Qt; belongs to the loop.

Qt has one, too, but starts a bus where there is none, and blocks while it connects.
"""

import asyncio
import logging
import os
import stat
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

from mirrorgui.ui.desktop.wire import (
    FIXED_HEADER,
    Field,
    Kind,
    Message,
    WireError,
    call,
    message_length,
    parse,
)

logger = logging.getLogger(__name__)

PATIENCE_S = 5.0
"""How long an answer is waited for."""

_BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus")

Listener = Callable[[Message], None]


class BusError(Exception):
    """The bus, or who was called over it, did not answer, or refused."""


def session_socket() -> str | None:
    """Return where the session's bus listens, or None where there is none; nothing is started."""
    for address in os.environ.get("DBUS_SESSION_BUS_ADDRESS", "").split(";"):
        transport, _, rest = address.partition(":")
        options = dict(each.partition("=")[::2] for each in rest.split(","))
        if transport != "unix":
            continue
        if "path" in options:
            return unquote(options["path"])
        if "abstract" in options:
            return "\0" + unquote(options["abstract"])
    if "DBUS_SESSION_BUS_ADDRESS" in os.environ:
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
                answer = await self._authenticate(reader)
        except (OSError, TimeoutError, ValueError) as error:
            await self.close()
            raise BusError(f"no session bus at {path!r}: {error}") from error
        if not answer.startswith(b"OK "):
            await self.close()
            raise BusError(f"the session bus at {path!r} answered {answer!r}")
        self._writer.write(b"BEGIN\r\n")
        loop = asyncio.get_running_loop()
        self._reading = loop.create_task(self._read(reader))
        await self.call(*_BUS, "Hello")

    async def _authenticate(self, reader: asyncio.StreamReader) -> bytes:
        assert self._writer is not None
        name = str(os.getuid()).encode().hex()
        self._writer.write(f"\0AUTH EXTERNAL {name}\r\n".encode())
        return await reader.readline()

    async def listen(self, interface: str) -> None:
        """Have the signals of an interface sent to us.

        Raises:
            BusError: the bus refused.
        """
        await self.call(*_BUS, "AddMatch", "s", f"type='signal',interface='{interface}'")

    async def call(
        self, destination: str, path: str, member: str, signature: str = "", *values: object
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
        try:
            self._writer.write(call(serial, destination, path, member, signature, *values))
            async with asyncio.timeout(PATIENCE_S):
                answer = await future
        except (OSError, TimeoutError) as error:
            raise BusError(f"no answer from {destination}") from error
        finally:
            self._answers.pop(serial, None)
        if answer.kind == Kind.ERROR:
            raise BusError(f"{answer.fields.get(Field.ERROR_NAME)}: {answer.body}")
        return answer.body

    async def close(self) -> None:
        """Leave the bus; calls that wait fail."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
            self._reading = None
        self._lost("closed")

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                head = await reader.readexactly(FIXED_HEADER)
                rest = await reader.readexactly(message_length(head) - FIXED_HEADER)
                self._arrived(parse(head + rest))
        except (asyncio.IncompleteReadError, OSError, WireError) as error:
            logger.info("session bus lost: %s", error)
            self._lost(str(error))

    def _arrived(self, message: Message) -> None:
        if message.kind == Kind.SIGNAL:
            self._heard(message)
            return
        future = self._answers.get(message.reply_to)
        if future is not None and not future.done():
            future.set_result(message)

    def _lost(self, reason: str) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        for future in self._answers.values():
            if not future.done():
                future.set_exception(OSError(reason))
