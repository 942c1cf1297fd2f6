"""What a connection has done so far, seen from outside."""

import time
from dataclasses import dataclass

from mirrorgui.nbd.constants import Command


@dataclass(frozen=True, slots=True)
class ConnectionStatistics:
    """A look at one connection. Totals only grow.

    Attributes:
        id: number of the connection, unique while the server lives.
        peer: who it is: ``host:port``, or the process behind a Unix socket.
        export: name of the export, or None during the handshake.
        since: seconds since the epoch.
        encrypted: whether it uses TLS.
        reads: READ requests.
        writes: WRITE, WRITE_ZEROES and TRIM requests.
        flushes: FLUSH requests.
        bytes_read: asked for by READ.
        bytes_written: asked to be changed by WRITE, WRITE_ZEROES and TRIM.
        errors: requests that were answered with an error.
        in_flight: requests being served by helping threads at this moment.
        last_request: such as ``READ 4096 at 65536``; empty before the first.
        last_request_at: seconds since the epoch; 0 before the first.
    """

    id: int
    peer: str
    export: str | None
    since: float
    encrypted: bool
    reads: int
    writes: int
    flushes: int
    bytes_read: int
    bytes_written: int
    errors: int
    in_flight: int
    last_request: str
    last_request_at: float


class Counters:
    """The same, being counted by the connection's own thread; any thread may look."""

    __slots__ = (
        "bytes_read",
        "bytes_written",
        "errors",
        "flushes",
        "in_flight",
        "last",
        "last_at",
        "reads",
        "since",
        "writes",
    )

    def __init__(self) -> None:
        self.since = time.time()
        self.reads = self.writes = self.flushes = 0
        self.bytes_read = self.bytes_written = 0
        self.errors = self.in_flight = 0
        self.last: tuple[int, int, int] | None = None
        self.last_at = 0.0

    def look(
        self, number: int, peer: str, export: str | None, encrypted: bool
    ) -> ConnectionStatistics:
        """Take a snapshot."""
        return ConnectionStatistics(
            id=number,
            peer=peer,
            export=export,
            since=self.since,
            encrypted=encrypted,
            reads=self.reads,
            writes=self.writes,
            flushes=self.flushes,
            bytes_read=self.bytes_read,
            bytes_written=self.bytes_written,
            errors=self.errors,
            in_flight=self.in_flight,
            last_request=_describe(self.last),
            last_request_at=self.last_at,
        )


def _describe(request: tuple[int, int, int] | None) -> str:
    if request is None:
        return ""
    command, offset, length = request
    name = Command(command).name if command in Command._value2member_map_ else str(command)
    return name if command == Command.FLUSH else f"{name} {length} at {offset}"
