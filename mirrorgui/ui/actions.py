"""Everything that can be done, as actions: menus, tool bar and keys share them.

What concerns a mirror is enabled by ``availability``; the reason of a disabled one is in its tool
tip and status tip.
"""

from collections.abc import Callable
from dataclasses import dataclass

from PySide6.QtCore import QObject
from PySide6.QtGui import QAction, QKeySequence

from mirrorgui.mirror.snapshot import JobSnapshot
from mirrorgui.mirror.states import OVER
from mirrorgui.ui.assets import icons_of
from mirrorgui.ui.availability import Act, Availability, availability
from mirrorgui.ui.i18n import tr

Key = QKeySequence | QKeySequence.StandardKey | str | None


@dataclass(frozen=True, slots=True)
class _Texts:
    label: str
    tip: str


class Actions(QObject):
    """The window's actions; ``do`` maps each act on a mirror to its action."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._tips: dict[Act, str] = {}
        self.reasons: dict[Act, str] = {}
        self._make_general()
        self._make_views()
        self.do: dict[Act, QAction] = self._make_acts()
        self.update(None)

    def _make(
        self, label: str, icon: str = "", key: Key = None, tip: str = "", color: str = "text"
    ) -> QAction:
        action = QAction(label, self)
        if icon:
            icons_of().give(action, icon, color)
        if isinstance(key, QKeySequence.StandardKey):
            action.setShortcuts(key)
        elif key is not None:
            action.setShortcut(QKeySequence(key))
        action.setToolTip(_with_key(tip or label, action))
        return action

    def _make_general(self) -> None:
        standard = QKeySequence.StandardKey
        self.new = self._make(tr("&New mirror..."), "new", standard.New)
        self.open = self._make(tr("&Open image as source..."), "folder", standard.Open)
        self.demonstrate = self._make(tr("Try the &demonstration"), "play")
        self.clear_recent = self._make(tr("&Clear list"))
        self.close = self._make(tr("&Close window"), "", standard.Close)
        self.quit = self._make(tr("&Quit"), "", "Ctrl+Q")
        self.about = self._make(tr("&About MirrorGUI"), "info")
        self.keys = self._make(tr("&Keyboard"), "", standard.HelpContents)

    def _make_views(self) -> None:
        self.map = self._make(tr("&Map"), "map", "Ctrl+1")
        self.charts = self._make(tr("&Charts"), "chart", "Ctrl+2")
        self.errors = self._make(tr("&Errors"), "error", "Ctrl+3")
        self.errors.setShortcuts([QKeySequence("Ctrl+3"), QKeySequence("Ctrl+E")])
        self.clients = self._make(tr("Clie&nts"), "disk", "Ctrl+4")
        self.log = self._make(tr("&Log"), "log", "Ctrl+5")
        self.find = self._make(tr("&Find in errors or log"), "search", "Ctrl+F")
        self.zoom_in = self._make(tr("Zoom &in"), "", "Ctrl++")
        self.zoom_out = self._make(tr("Zoom &out"), "", "Ctrl+-")
        self.fit = self._make(tr("Whole image"), "", "Ctrl+0")
        self.picture = self._make(tr("Save &picture..."), "save", "Ctrl+Shift+S")
        self.full_screen = self._make(tr("F&ull screen"), "", "F11")
        self.full_screen.setCheckable(True)
        self.next_pane = self._make(tr("Next pane"), "", "F6")
        self.previous_pane = self._make(tr("Previous pane"), "", "Shift+F6")

    def _make_acts(self) -> dict[Act, QAction]:
        made = {}
        for act, label, icon, key, tip in (
            (Act.PAUSE, tr("&Pause"), "pause", None, tr("Stop copying; clients go on")),
            (Act.RESUME, tr("&Resume"), "play", None, tr("Go on copying")),
            (Act.SPEED, tr("Speed &limit..."), "speed", "Ctrl+L", tr("Limit the copy's speed")),
            (
                Act.COMPLETE,
                tr("Complete: &switch"),
                "switch",
                "Ctrl+Return",
                tr("Switch clients over to the target and end"),
            ),
            (
                Act.FINISH,
                tr("&Finish without switching"),
                "finish",
                None,
                tr("End with the target as a copy of this moment; clients stay on the source"),
            ),
            (Act.CANCEL, tr("&Cancel..."), "cancel", None, tr("Stop this mirror")),
            (
                Act.WRITE_BLOCKING,
                tr("Use &write-blocking mode"),
                "",
                None,
                tr("Client writes wait for the target; guaranteed to converge"),
            ),
            (Act.POLICY, tr("&Error policies..."), "settings", None, ""),
            (Act.REMOVE, tr("Re&move from list"), "", "Delete", tr("Files are not touched")),
            (Act.RETRY, tr("Try &again..."), "retry", None, tr("Fill the New mirror dialog in")),
        ):
            made[act] = self._make(label, icon, key, tip)
            self._tips[act] = tip or label.replace("&", "")
        # Its icon is drawn for the blue button; a menu has another ground.
        made[Act.COMPLETE].setIconVisibleInMenu(False)
        return made

    def act(self, act: Act) -> Availability:
        """Return whether an act is possible, as last updated."""
        return self._now[act]

    def update(self, snapshot: JobSnapshot | None, *, free_space: int | None = None) -> None:
        """Enable what is possible for a job, disable the rest and say why."""
        self._now = {each: availability(each, snapshot, free_space=free_space) for each in Act}
        for act, possible in self._now.items():
            self._show(self.do[act], act, possible)
        ready = snapshot is not None and snapshot.ready and snapshot.status not in OVER
        label = tr("&Discard...") if ready else tr("&Cancel...")
        if self.do[Act.CANCEL].text() != label:
            self.do[Act.CANCEL].setText(label)

    def _show(self, action: QAction, act: Act, possible: Availability) -> None:
        if action.isEnabled() != possible.enabled:
            action.setEnabled(possible.enabled)
        tip = _with_key(self._tips[act], action)
        if possible.reason:
            tip = f"{tip}\n{possible.reason}."
        if action.toolTip() != tip:
            action.setToolTip(tip)
            action.setStatusTip(possible.reason)
        self.reasons[act] = possible.reason

    def connect_act(self, act: Act, slot: Callable[[], object]) -> None:
        """Call ``slot`` when an act is chosen."""
        self.do[act].triggered.connect(lambda _checked=False: slot())


def _with_key(tip: str, action: QAction) -> str:
    plain = tip.replace("&", "").removesuffix("...")
    key = action.shortcut().toString(QKeySequence.SequenceFormat.NativeText)
    return f"{plain} ({key})" if key else plain
