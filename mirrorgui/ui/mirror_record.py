"""What the controller keeps of one mirror."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mirrorgui.mirror.bitmap import MapWords
from mirrorgui.mirror.options import ErrorPolicy
from mirrorgui.mirror.rates import RateTracker
from mirrorgui.mirror.snapshot import JobSnapshot
from mirrorgui.ui.backend import Session
from mirrorgui.ui.exported import Exported, ExportWatch
from mirrorgui.ui.frame import Ends
from mirrorgui.ui.names import Names

if TYPE_CHECKING:
    from mirrorgui.demo import Demonstration


@dataclass(slots=True, eq=False)
class MirrorRecord:
    """One mirror; the controller's own."""

    key: int
    session: Session
    names: Names
    ends: Ends
    snapshot: JobSnapshot
    words: MapWords
    tracker: RateTracker = field(default_factory=RateTracker)
    generation: int | None = None
    free_space: int | None = None
    policies: tuple[ErrorPolicy, ErrorPolicy] = (ErrorPolicy.REPORT, ErrorPolicy.REPORT)
    demonstration: "Demonstration | None" = None
    delete_incomplete: bool = False
    closed: bool = False
    looking_after: bool = False
    exported: Exported | None = None
    serving: bool = False
    forget_events: Callable[[], None] | None = None
    watch: ExportWatch = field(init=False)

    def __post_init__(self) -> None:
        self.watch = ExportWatch(self.session)
