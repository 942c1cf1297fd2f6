"""The engine without a window, until a client or a signal ends it."""

import asyncio
import contextlib
import logging
import os
import signal
import sys

from mirrorgui.house import House
from mirrorgui.qmp.address import Address
from mirrorgui.qmp.monitor import monitored

logger = logging.getLogger(__name__)

EXIT_DONE = 0


def serve(address: Address) -> int:
    """Serve an address, and return the exit status at the end.

    The first SIGINT or SIGTERM cancels all jobs and ends in order, the second one at once.

    Raises:
        InvalidInput: the address cannot be listened on; nothing was done.
    """
    return asyncio.run(_serve(address))


async def _serve(address: Address) -> int:
    ended = asyncio.Event()
    signals = _Signals(ended)
    try:
        async with monitored(House(), address, ended.set) as server:
            print(f"mirrorgui: QMP on {server.address}", file=sys.stderr, flush=True)  # noqa: T201
            await ended.wait()
    finally:
        signals.close()
    return EXIT_DONE


class _Signals:
    """SIGINT and SIGTERM."""

    def __init__(self, ended: asyncio.Event) -> None:
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._handled: list[int] = []
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(NotImplementedError):  # not every platform's loop can
                self._loop.add_signal_handler(number, self._end, number)
                self._handled.append(number)

    def _end(self, number: int) -> None:
        if self._ended.is_set():  # something hangs, a dead file server maybe
            logger.warning("ended at once signal=%d", number)
            os._exit(128 + number)
        logger.info("ending signal=%d", number)
        self._ended.set()

    def close(self) -> None:
        for number in self._handled:
            self._loop.remove_signal_handler(number)
