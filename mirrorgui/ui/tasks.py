"""Tasks that somebody owns: the event loop itself keeps weak references only."""

import asyncio
from collections.abc import Coroutine
from typing import Any


class TaskSet:
    """Keeps tasks until they end; a failure goes to the loop's exception handler at once."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Start a task on the running loop."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            task.get_loop().call_exception_handler(
                {"message": "a task of the window failed", "exception": error, "task": task}
            )

    async def cancel_all(self) -> None:
        """Cancel every task but the calling one, and wait for their ends."""
        others = [each for each in self._tasks if each is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
