"""An export as the window shows it. Free of Qt."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mirrorgui.nbd.uri import parse_uri
from mirrorgui.ui.export_texts import ClientCommand, client_commands
from mirrorgui.ui.i18n import ntr, tr

if TYPE_CHECKING:
    from mirrorgui.nbd.statistics import ConnectionStatistics
    from mirrorgui.ui.backend import Session

LOOK_NS = 500_000_000
"""Twice a second: nobody reads numbers faster than that, and a hundred clients are no effort."""


@dataclass(frozen=True, slots=True)
class Exported:
    """The source, or the target after a switch, as it is offered to guests.

    Attributes:
        uri: what guests open.
        read_only: guests may only read.
        certificates: folder of the certificates, for an export with TLS.
        clients: the connections as they were at the last look, the oldest first.
        by_command: a QMP command offers it: it is listed apart, and outlives a mirror.
        alone: its server offers nothing else.
    """

    uri: str
    read_only: bool = False
    certificates: str = ""
    clients: "tuple[ConnectionStatistics, ...]" = ()
    by_command: bool = False
    alone: bool = True

    @property
    def commands(self) -> tuple[ClientCommand, ...]:
        """Commands for clients."""
        return client_commands(
            self.uri,
            read_only=self.read_only,
            certificates=self.certificates,
            alone=self.alone,
        )

    def joined(self, others: Sequence["Exported"]) -> "Exported":
        """Return this one with the clients of others that offer the same disk."""
        if not others:
            return self
        clients = [client for each in (self, *others) for client in each.clients]
        clients.sort(key=lambda client: client.since)
        read_only = all(each.read_only for each in (self, *others))
        return replace(self, clients=tuple(clients), read_only=read_only)


def connected_text(count: int) -> str:
    """Say how many clients there are, for the header: ``2 connected``."""
    return tr("{n} connected", n=count)


def users_text(count: int) -> str:
    """Say how many clients there are, for a question."""
    if not count:
        return tr("No client is using the export at the moment.")
    return ntr("{n} client is using the export.", "{n} clients are using the export.", count)


def since_text(since_s: float, now_s: float | None = None) -> str:
    """Write a time in seconds since 1970: ``19:52:07``, with the date when it was another day."""
    now = time.localtime(now_s if now_s is not None else time.time())
    then = time.localtime(since_s)
    same_day = (then.tm_year, then.tm_yday) == (now.tm_year, now.tm_yday)
    return time.strftime("%H:%M:%S" if same_day else "%Y-%m-%d %H:%M:%S", then)


def age_text(seconds: float) -> str:
    """Say how long ago something was: ``now``, ``12 s ago``, ``3 min ago``, ``2 h ago``."""
    if seconds < 1:
        return tr("now")
    if seconds < 60:
        return tr("{n} s ago", n=int(seconds))
    if seconds < 3600:
        return tr("{n} min ago", n=int(seconds // 60))
    return tr("{n} h ago", n=int(seconds // 3600))


class ExportWatch:
    """Looks at a session's export, twice a second at most however often it is asked.

    Args:
        session: an open session.
    """

    def __init__(self, session: "Session") -> None:
        self._session = session
        request = session.request.export
        self._read_only = request is not None and request.read_only
        self._certificates = parse_uri(request.uri).tls_certificates if request is not None else ""
        self._latest: Exported | None = None
        self._looked_ns = 0

    def look(self, now_ns: int) -> Exported | None:
        """Return the export as it is at ``now_ns`` (of a clock that never goes back), or None."""
        if not self._session.export_uri:
            return None
        if self._latest is None or now_ns - self._looked_ns >= LOOK_NS:
            self._looked_ns = now_ns
            self._latest = Exported(
                self._session.export_uri,
                self._read_only,
                self._certificates,
                self._session.clients(),
            )
        return self._latest
