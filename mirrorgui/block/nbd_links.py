"""The connections of an NBD node: how many, which one next, and what happens when one is lost."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from mirrorgui.errors import InvalidInput, MirrorGUIError
from mirrorgui.nbd.client import ClientConnection, ConnectionLostError

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 1.0

_CLOSE_WAIT_S = 2.0

_MAX_REPEATS = 5
"""A request that ends so many connections in a row is what the server dies of."""

Result = TypeVar("Result")


class LinkDownError(MirrorGUIError):
    """The server is lost, and could not be reached again in time."""


class LinkCancelledError(MirrorGUIError):
    """The request was given up on demand."""


class Links:
    """Connections to one export, opened as they are needed and opened again when they are lost.

    Args:
        connect: opens one more; raises ``InvalidInput`` when that is not possible.
        first: the first one, already open.
        limit: most connections at a time.
        reconnect_s: how long to try to reach a lost server again; 0 tries once.

    Concurrency: every method but ``close`` may be called from any thread.
    """

    def __init__(
        self,
        connect: Callable[[], ClientConnection],
        first: ClientConnection,
        *,
        limit: int,
        reconnect_s: float,
    ) -> None:
        self._connect = connect
        self._limit = self._wanted = limit
        self._reconnect_s = reconnect_s
        self._changed = threading.Condition(threading.Lock())
        self._users: dict[ClientConnection, int] = {first: 0}
        self._opener: threading.Thread | None = None
        self._lost_at: float | None = None
        self._failure = ""
        """Why the last attempt to open a connection was given up; empty when it succeeded."""
        self._outcomes = 0
        self._epoch = 0
        self._closed = False

    def __len__(self) -> int:
        """Return the number of open connections."""
        with self._changed:
            return len(self._alive())

    def run(self, use: Callable[[ClientConnection], Result]) -> Result:
        """Let ``use`` make its requests on a connection; again on another one if that is lost.

        All requests of an NBD node may be repeated: the same bytes at the same place.

        Raises:
            RequestFailedError: from ``use``.
            LinkDownError: no connection could be had, or each was lost.
            LinkCancelledError: ``cancel`` was called meanwhile.
        """
        epoch = self._epoch
        for _ in range(_MAX_REPEATS):
            connection = self._take(epoch)
            try:
                return use(connection)
            except ConnectionLostError as error:
                failure = str(error)
            finally:
                self._give_back(connection)
            if epoch != self._epoch:
                raise LinkCancelledError("cancelled")
        raise LinkDownError(failure)

    def cancel(self) -> None:
        """Make every request that is under way end with ``LinkCancelledError``.

        Later ones open new connections.
        """
        with self._changed:
            self._epoch += 1
            for connection, users in self._users.items():
                if users:
                    connection.abort()
            self._changed.notify_all()

    def close(self) -> None:
        """Say goodbye on every connection. No other call may be running or follow."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            opener = self._opener
        if opener is not None:
            opener.join(_CLOSE_WAIT_S)  # one that still connects closes what it gets
        for connection in self._users:
            connection.close()
        self._users.clear()

    # Taking and giving back

    def _take(self, epoch: int) -> ClientConnection:
        with self._changed:
            while True:
                if self._epoch != epoch:
                    raise LinkCancelledError("cancelled")
                alive = self._alive()
                if alive:
                    best = min(alive, key=lambda connection: self._users[connection])
                    if self._users[best] and len(alive) < self._wanted:
                        self._open_one()  # this request goes ahead meanwhile
                    self._users[best] += 1
                    return best
                if self._closed:
                    raise LinkDownError("the node is closed")
                self._lost_at = self._lost_at or time.monotonic()
                self._await_outcome(epoch)
                if self._failure and not self._alive() and self._epoch == epoch:
                    raise LinkDownError(self._failure)

    def _await_outcome(self, epoch: int) -> None:
        """Wait for one result of the opening thread, whose attempts have a limit."""
        outcomes = self._outcomes
        self._open_one()
        self._changed.wait_for(
            lambda: self._outcomes != outcomes or self._epoch != epoch or self._closed
        )

    def _give_back(self, connection: ClientConnection) -> None:
        with self._changed:
            self._users[connection] -= 1
            if not connection.is_lost:
                return
            if not self._alive():
                self._lost_at = self._lost_at or time.monotonic()
            unused = not self._users[connection]
            if unused:
                del self._users[connection]
        if unused:
            connection.close()

    def _alive(self) -> list[ClientConnection]:
        return [connection for connection in self._users if not connection.is_lost]

    # Opening

    def _open_one(self) -> None:
        """Let a thread open a connection, if none does. The caller holds the lock."""
        if self._opener is None and not self._closed:
            self._opener = threading.Thread(target=self._open, name="nbd-connect", daemon=True)
            self._opener.start()

    def _open(self) -> None:
        failure: str | None = None
        pause_s = _FIRST_PAUSE_S
        try:
            while (failure := self._try_to_open(pause_s)) is None:
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        finally:
            # Also after a defect: whoever waits for the outcome must not wait forever.
            with self._changed:
                self._failure = "no connection could be opened" if failure is None else failure
                self._opener = None
                self._outcomes += 1
                self._changed.notify_all()

    def _try_to_open(self, pause_s: float) -> str | None:
        """Open a connection, or wait until it is time for the next attempt.

        Returns:
            An empty text when it is open, the reason to give up, or None for another attempt.
        """
        try:
            connection = self._connect()
        except InvalidInput as error:
            return error.reason if self._is_enough(pause_s) else None
        with self._changed:
            if self._closed:
                connection.close()
            else:
                self._users[connection] = 0
            self._lost_at = None
            self._wanted = self._limit
        return ""

    def _is_enough(self, pause_s: float) -> bool:
        """After a failed attempt: wait for the next one, or say that there is none."""
        with self._changed:
            if self._alive():
                self._wanted = len(self._alive())  # the server does not want more of us
            else:
                give_up_at = (self._lost_at or 0.0) + self._reconnect_s
                pause_s = min(pause_s, give_up_at - time.monotonic())
                epoch = self._epoch
                if pause_s > 0 and not self._changed.wait_for(
                    lambda: self._closed or self._epoch != epoch, pause_s
                ):
                    return False
            return True
