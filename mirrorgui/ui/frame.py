"""What the window shows at one moment: one snapshot and everything that was worked out from it.

Free of Qt. All panels draw the same frame, so that no two of them can disagree.
"""

from dataclasses import dataclass, replace

from mirrorgui.mirror.bitmap import MapWords
from mirrorgui.mirror.rates import Rates
from mirrorgui.mirror.snapshot import JobSnapshot
from mirrorgui.mirror.states import OVER
from mirrorgui.ui.exported import Exported
from mirrorgui.ui.i18n import tr
from mirrorgui.ui.names import Names
from mirrorgui.ui.notices import Notice, notice_for
from mirrorgui.ui.wording import Shown, shown_state


@dataclass(frozen=True, slots=True)
class Ends:
    """What the header says below the names: format, size, backing file of both images."""

    source: str = ""
    target: str = ""
    source_backing: str = ""


@dataclass(frozen=True, slots=True)
class Frame:
    """One look at one mirror.

    Attributes:
        key: which mirror, a number that no other mirror of this run has.
        names, ends: both images.
        snapshot: the job.
        words: its map; belongs to the controller and is valid during the call only.
        rates: from the one tracker of this job.
        free_space: bytes free where the target lies, when known.
        demonstration: temporary images, a guest of our own.
        target_loss: what another program did to the target's file; empty when nothing.
        exported: how the disk is offered to guests, as long as it is.
    """

    key: int
    names: Names
    ends: Ends
    snapshot: JobSnapshot
    words: MapWords
    rates: Rates
    free_space: int | None = None
    demonstration: bool = False
    target_loss: str = ""
    exported: Exported | None = None

    @property
    def shown(self) -> Shown:
        """The state in words."""
        return shown_state(
            self.snapshot,
            self.names,
            converging=self.rates.converging,
            target_loss=self.target_loss,
        )

    @property
    def notice(self) -> Notice | None:
        """What the message bar has to say."""
        too_slow = None
        if not self.rates.converging:
            too_slow = (self.rates.trend_dirtied, self.rates.trend_copied)
        found = notice_for(
            self.snapshot,
            self.names,
            free_space=self.free_space,
            too_slow=too_slow,
            target_loss=self.target_loss,
        )
        exported = self.exported
        if found is None or self.snapshot.status not in OVER:
            return found
        if exported is None or exported.by_command:
            return found
        served = tr("Clients keep the disk until you remove this mirror from the list.")
        return replace(found, text=f"{found.text} {served}")
