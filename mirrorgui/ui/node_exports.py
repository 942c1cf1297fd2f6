"""Exports that QMP commands have added, as the window shows them. Free of Qt."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mirrorgui.errors import NodeError
from mirrorgui.nbd.uri import NbdAddress, format_uri
from mirrorgui.ui.exported import Exported, users_text
from mirrorgui.ui.i18n import tr
from mirrorgui.ui.names import short_name
from mirrorgui.ui.questions import Answer, Choice, Question

if TYPE_CHECKING:
    from mirrorgui.graph.exports import NodeExport
    from mirrorgui.graph.nodes import GraphNode
    from mirrorgui.house import House

_FILTER = "mirror_top"


@dataclass(frozen=True, slots=True)
class NodeExported:
    """An export of a node, at one moment.

    Attributes:
        id: its name among exports.
        node: name of the node that it shows.
        image: where that node's bytes are, as its driver names it.
        exported: its address and its clients.
        drive: what its clients go through; the drive of a mirror of that node is the same object.
        shutting_down: its clients are being disconnected.
    """

    id: str
    node: str
    image: str
    exported: Exported
    drive: object = None
    shutting_down: bool = False

    @property
    def shows(self) -> str:
        """What it shows, in short: the node, and its image's short name where that says more."""
        image = short_name(self.image)
        return self.node if image in ("", self.node) else f"{self.node}: {image}"

    @property
    def access(self) -> str:
        """What clients may do."""
        return tr("read-only") if self.exported.read_only else tr("writable")


class ExportSource(Protocol):
    """Where exports are looked up; belongs to the loop's thread."""

    def listen(self, listener: Callable[[], object]) -> Callable[[], None]: ...
    def look(self) -> tuple[NodeExported, ...]: ...
    async def remove(self, export_id: str) -> None: ...


class HouseExports:
    """The exports of a house, without those that its mirrors have brought.

    Args:
        house: where commands work.
    """

    def __init__(self, house: "House") -> None:
        self._house = house

    def listen(self, listener: Callable[[], object]) -> Callable[[], None]:
        """Call ``listener`` when an export comes or goes; returns what ends that."""
        return self._house.exports.listen(listener)

    def look(self) -> tuple[NodeExported, ...]:
        """Return all exports as they are now, the oldest first."""
        found = [one for one in reversed(self._house.exports.all) if not one.has_own_server]
        alone = len(found) == 1
        return tuple(_look(each, alone=alone) for each in found)

    async def remove(self, export_id: str) -> None:
        """Disconnect an export's clients and offer it no longer; nothing when it has gone.

        Raises:
            NodeError: it is shutting down already.
        """
        if any(export.id == export_id for export in self._house.exports.all):
            await self._house.exports.remove(export_id, hard=True)
            await self._house.settle()


def _look(export: "NodeExport", *, alone: bool) -> NodeExported:
    server, offered = export.server, export.export
    node = _shown(export.node)
    clients = tuple(one for one in server.connections() if one.export == offered.name)
    address = _from_anywhere(replace(server.address, export=offered.name))
    return NodeExported(
        export.id,
        node.name,
        node.node.name,
        Exported(
            format_uri(address),
            offered.read_only,
            clients=clients,
            by_command=True,
            alone=alone,
        ),
        offered.node,
        export.shutting_down,
    )


def _shown(node: "GraphNode") -> "GraphNode":
    """Return what a person knows a node by: below the filter of a mirror, its source."""
    below = node.child("backing") if node.driver == _FILTER else None
    return node if below is None else below


def _from_anywhere(address: NbdAddress) -> NbdAddress:
    """Return an address that leads to the same socket from every folder."""
    if not address.is_unix or address.socket_path.startswith("\0"):
        return address
    return replace(address, socket_path=str(Path(address.socket_path).absolute()))


def stop_export_question(export: NodeExported) -> Question:
    """Ask before clients of an export lose their disk."""
    text = users_text(len(export.exported.clients))
    if export.exported.read_only:
        more = tr("Clients lose their disk; nothing is lost in {image}.", image=export.shows)
    else:
        more = tr(
            "Clients lose their disk; what they have written stays in {image}.", image=export.shows
        )
    return Question(
        tr("Stop the export {id}?", id=export.id),
        f"{text} {more}",
        (
            Choice(Answer.KEEP, tr("&Keep offering")),
            Choice(Answer.STOP, tr("&Disconnect and stop"), dangerous=True),
        ),
    )


def close_on_exports_question(exports: tuple[NodeExported, ...]) -> Question:
    """Ask before the window closes on exports that clients use."""
    used = [each for each in exports if each.exported.clients]
    text = tr(
        "{users} Clients lose their disk; what they have written stays.",
        users=users_text(clients_of(exports)),
    )
    return Question(
        tr("Stop offering {exports} to clients?", exports=", ".join(each.id for each in used)),
        text,
        (
            Choice(Answer.KEEP, tr("Sta&y")),
            Choice(Answer.STOP, tr("&Disconnect and close"), dangerous=True),
        ),
    )


def clients_of(exports: tuple[NodeExported, ...]) -> int:
    """Return how many clients use exports."""
    return sum(len(each.exported.clients) for each in exports)


def refusal_text(error: NodeError) -> str:
    """Write why an export could not be stopped."""
    return tr("The export was not stopped: {reason}.", reason=error)
