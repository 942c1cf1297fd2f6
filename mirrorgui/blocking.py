"""Calls that block, made from the event loop."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_thread(function: Callable[[], T], *, undo: Callable[[T], object] | None = None) -> T:
    """Call something that blocks; awaited to its end also when the caller is cancelled.

    The loop's executor is not used: on a Qt loop its first use starts ten threads that wait for
    the end of the program.

    Args:
        function: what to call.
        undo: called in a thread with the result when nobody gets it any more.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def work() -> None:
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001 - a border: the caller gets it
            loop.call_soon_threadsafe(future.set_exception, error)
        else:
            loop.call_soon_threadsafe(future.set_result, result)

    thread = threading.Thread(target=work, name="session")
    thread.start()
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        while not future.done():
            with contextlib.suppress(asyncio.CancelledError):  # once is enough
                await asyncio.wait([future])
        if future.exception() is None and undo is not None:
            result = future.result()
            await in_thread(lambda: undo(result))
        raise
    finally:
        thread.join()
