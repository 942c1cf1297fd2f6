"""A house with a monitor, and the order in which both end."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from mirrorgui.qmp import commands as _registered
from mirrorgui.qmp.address import Address
from mirrorgui.qmp.dispatch import House
from mirrorgui.qmp.server import QmpServer

__all__ = ["monitored"]
_ = _registered  # imported for the commands that it registers


@asynccontextmanager
async def monitored(
    house: House, address: Address, ended: Callable[[], None] = lambda: None
) -> AsyncIterator[QmpServer]:
    """Let clients work in a house for the block of the ``async with``; close both at its end.

    Args:
        house: where they work.
        address: where the monitor listens.
        ended: called when a client has ended everything with ``quit``.

    Raises:
        InvalidInput: the address cannot be listened on.
    """

    async def quit_now() -> None:
        await house.close()
        ended()

    server = QmpServer(house, address, quit=quit_now)
    await server.start()
    try:
        yield server
    finally:
        try:
            await house.close()  # while clients still hear how their jobs end
        finally:
            await server.close()
