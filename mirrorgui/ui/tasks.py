"""Tasks that somebody owns: the event loop itself keeps weak references only."""

import asyncio
from collections.abc import Coroutine
from typing import Any


class TaskSet:
    """Keeps tasks until they end.

    Args:
        loop: runs them.
        awaited: somebody awaits every task and gets its failure; otherwise a failure goes to the
            loop's exception handler.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, awaited: bool = False) -> None:
        self._loop = loop
        self._awaited = awaited
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Start a task on the loop; may be called by any slot of the loop's thread."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if self._awaited:
            return
        if not task.cancelled() and (error := task.exception()) is not None:
            task.get_loop().call_exception_handler(
                {"message": "a task of the window failed", "exception": error, "task": task}
            )

    async def wait_all(self) -> None:
        """Wait until every task has ended, well or not."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def cancel_all(self) -> None:
        """Cancel every task but the calling one, and wait for their ends."""
        others = [each for each in self._tasks if each is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
