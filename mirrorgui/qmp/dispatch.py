"""From a command's name and arguments to its handler, and from what it raises to QMP's errors.

A handler is a coroutine that is registered under the name of its command::

    @command("blockdev-add")
    async def blockdev_add(house: House, args: Mapping[str, Any]) -> object: ...

Its arguments have been held against ``schema.COMMANDS``: everything required is there, nothing
unknown is, defaults are filled in where the table has some, and names are as in JSON. What it
returns goes to the client (``None`` becomes an empty object); it refuses with ``QmpError`` or with
any error of the engine. Handlers run one at a time, whatever client asked.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeAlias, TypeVar

from mirrorgui.errors import MirrorGUIError
from mirrorgui.mirror.events import EventLog
from mirrorgui.qmp.errors import ErrorClass, QmpError, as_qmp_error
from mirrorgui.qmp.schema import COMMANDS
from mirrorgui.qmp.types import Place

logger = logging.getLogger(__name__)

Arguments: TypeAlias = Mapping[str, Any]
Handler: TypeAlias = Callable[[Any, Arguments], Awaitable[object]]

_H = TypeVar("_H", bound=Handler)

NEGOTIATE = "qmp_capabilities"
"""The command that each client begins with, and that changes nothing but the client."""

HANDLERS: dict[str, Handler] = {}
"""Everything that has been registered with ``command``."""


class House(Protocol):
    """What the monitor itself needs of the house that the handlers work in.

    Attributes:
        events: every event of every job and export, in the order in which clients get them.
    """

    events: EventLog

    async def close(self) -> None:
        """Cancel jobs promptly, stop exports and their server, close nodes. Idempotent."""


def command(name: str) -> Callable[[_H], _H]:
    """Register a handler; the command has to be in the table of arguments."""
    if name not in COMMANDS:
        raise KeyError(f"{name} is not in schema.COMMANDS")

    def register(handler: _H) -> _H:
        HANDLERS[name] = handler
        return handler

    return register


def check_arguments(name: str, arguments: object) -> dict[str, Any]:
    """Hold arguments against the table, and fill in defaults.

    Raises:
        QmpError: naming the first argument that is missing, of another type or unknown.
    """
    checked: dict[str, Any] = COMMANDS[name].check(arguments, Place())
    return checked


class Dispatcher:
    """Carries out commands on one house.

    Args:
        house: what the handlers get.
        own: handlers that belong to the monitor rather than to the house, such as ``quit``.
    """

    def __init__(self, house: House, own: Mapping[str, Handler]) -> None:
        self._house = house
        self._handlers = {**HANDLERS, **own}
        self._turn = asyncio.Lock()
        """Held while a command is carried out; whoever asked first is served first."""

    @property
    def names(self) -> list[str]:
        """The commands that can be carried out."""
        return [name for name in COMMANDS if name in self._handlers or name == NEGOTIATE]

    def require(self, name: str) -> Handler:
        """Return a command's handler.

        Raises:
            QmpError: there is none.
        """
        handler = self._handlers.get(name)
        if handler is None:
            text = f"The command {name} has not been found"
            raise QmpError(text, ErrorClass.COMMAND_NOT_FOUND)
        return handler

    async def stop(self, timeout_s: float) -> None:
        """Carry out nothing more; return when the present command has ended, or after a while."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._turn.acquire(), timeout_s)

    async def execute(self, name: str, arguments: object) -> object:
        """Carry out a command.

        Raises:
            QmpError: refused or failed. Nothing else but a cancellation is raised.
        """
        handler = self.require(name)
        checked = check_arguments(name, arguments)
        try:
            async with self._turn:
                result = await handler(self._house, checked)
        except MirrorGUIError as error:
            raise as_qmp_error(error) from error
        except Exception as error:  # the client must get an answer, and the next command its turn
            logger.exception("command failed name=%s", name)
            raise QmpError(f"Internal error: {type(error).__name__}: {error}") from error
        return {} if result is None else result
