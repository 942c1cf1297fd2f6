"""The head of a mirror: which images, its state in words, its progress, its numbers."""

import time

from PySide6.QtCore import Qt
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import (
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from mirrorgui.mirror.options import CopyMode
from mirrorgui.mirror.rates import EtaState, Rates
from mirrorgui.mirror.snapshot import JobSnapshot
from mirrorgui.mirror.states import OVER
from mirrorgui.ui.announce import announce
from mirrorgui.ui.assets import icons_of
from mirrorgui.ui.elide import ElidedLabel
from mirrorgui.ui.exported import Exported, connected_text
from mirrorgui.ui.frame import Frame
from mirrorgui.ui.i18n import tr
from mirrorgui.ui.rate_texts import EtaText, limit_text
from mirrorgui.ui.style import set_look
from mirrorgui.ui.wording import Bar, Shown, Tone, headline
from mirrorgui.units import format_rate, format_size

TONE_COLOR = {
    Tone.NEUTRAL: "muted",
    Tone.ACTIVE: "copy",
    Tone.GOOD: "good",
    Tone.ATTENTION: "warning",
    Tone.ERROR: "danger",
}
"""Which of ``ThemeColors`` an icon of that tone is drawn in."""

_GAP = 26
"""Points between two numbers."""

_SAID_ELSEWHERE = ("mode", "limit")
"""Numbers that the status line and the tool bar show, too."""

_STEPS = 10_000
"""Steps of the progress bar: a hundredth of a percent moves a pixel on the widest screen."""


class Header(QFrame):
    """Shows frames of one mirror."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._eta = EtaText()
        self._key: int | None = None
        self._said = ""
        self._source = _ImageLabel(tr("Source"), self)
        self._target = _ImageLabel(tr("Target"), self)
        self._arrow = QLabel(self)
        icons_of().give(self._arrow, "arrow-right", "muted", 20)
        self._icon = QLabel(self)
        self.state = QLabel(self)
        set_look(self.state, "state")
        self.state.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.remaining = QLabel(self)
        set_look(self.remaining, "muted")
        self.bar = QProgressBar(self)
        self.bar.setRange(0, _STEPS)
        self.bar.setTextVisible(False)
        self.bar.setAccessibleName(tr("Progress"))
        self.numbers = Numbers(self)
        self._lay_out()

    def _lay_out(self) -> None:
        images = QHBoxLayout()
        images.setSpacing(12)
        images.addWidget(self._source)
        images.addWidget(self._arrow)
        images.addWidget(self._target)
        images.addStretch(1)
        state = QHBoxLayout()
        state.setSpacing(8)
        state.addStretch(1)
        state.addWidget(self._icon)
        state.addWidget(self.state)
        right = QVBoxLayout()
        right.setSpacing(1)
        right.addLayout(state)
        self.remaining.setAlignment(Qt.AlignmentFlag.AlignRight)
        right.addWidget(self.remaining)
        top = QHBoxLayout()
        top.setSpacing(18)
        top.addLayout(images, 1)
        top.addLayout(right)
        column = QVBoxLayout(self)
        column.setContentsMargins(16, 12, 16, 10)
        column.setSpacing(9)
        column.addLayout(top)
        column.addWidget(self.bar)
        column.addWidget(self.numbers)

    def update_frame(self, frame: Frame) -> None:
        """Show a frame."""
        if frame.key != self._key:
            self._key, self._eta, self._said = frame.key, EtaText(), ""
        self._source.say(frame.names.source, frame.ends.source, frame.names.source_full)
        self._target.say(frame.names.target, frame.ends.target, frame.names.target_full)
        shown = frame.shown
        self._show_state(frame, shown)
        self._show_progress(shown)
        self.numbers.update_frame(frame.snapshot, frame.rates, frame.exported)

    def _show_state(self, frame: Frame, shown: Shown) -> None:
        text = headline(frame.snapshot, shown)
        if self.state.text() != text:
            self.state.setText(text)
            self.state.setAccessibleName(tr("State: {state}", state=text))
        set_look(self.state, shown.tone.value, "tone")
        icons_of().give(self._icon, shown.icon, TONE_COLOR[shown.tone], 22)
        word = shown.text.rstrip("0123456789 %.")
        if word != self._said:
            # Progress alone is not announced: a screen reader must not talk all the time.
            self._said = word
            announce(self.state, shown.text)
        self.remaining.setText(self._remaining_text(frame))

    def _remaining_text(self, frame: Frame) -> str:
        if frame.snapshot.status in OVER:
            return tr("took {time}", time=_elapsed(frame.rates)) if frame.rates.active_ns else ""
        if frame.rates.state is EtaState.PAUSED:
            return tr("{size} left", size=format_size(frame.snapshot.remaining))
        if frame.snapshot.ready:
            # Copying as fast as guests write is all that can be asked of a mirror in sync.
            synced = frame.snapshot.actively_synced
            return tr("every answered write is on both images") if synced else ""
        return self._eta.update(frame.rates, time.time())

    def _show_progress(self, shown: Shown) -> None:
        set_look(self.bar, shown.tone.value, "tone")
        if shown.bar is Bar.BUSY:
            self.bar.setRange(0, 0)
            return
        if self.bar.maximum() == 0:
            self.bar.setRange(0, _STEPS)
        self.bar.setValue(int(shown.share * _STEPS))


class _ImageLabel(QWidget):
    """An image's short name, and below it what it is."""

    def __init__(self, part: str, parent: QWidget) -> None:
        super().__init__(parent)
        self._part = part
        self._name = ElidedLabel(self)
        set_look(self._name, "title")
        self._facts = ElidedLabel(self)
        set_look(self._facts, "muted")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(1)
        column.addWidget(self._name)
        column.addWidget(self._facts)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Preferred)

    def say(self, name: str, facts: str, full: str) -> None:
        if self._name.full_text() == name and self._facts.full_text() == facts:
            return
        self._name.set_full_text(name, tip=full)
        self._facts.set_full_text(facts or self._part)
        self.setAccessibleName(f"{self._part}: {full}. {facts}")


class Numbers(QWidget):
    """A row of numbers with their captions."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._changed = False
        self._titles: dict[str, QLabel] = {}
        self._values: dict[str, QLabel] = {}
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(_GAP)
        self._grid.setVerticalSpacing(0)
        for key, caption in (
            ("copied", tr("Copied")),
            ("left", tr("To copy")),
            ("again", tr("Written meanwhile")),
            ("rate", tr("Rate")),
            ("clients", tr("Clients write")),
            ("limit", tr("Speed limit")),
            ("mode", tr("Copy mode")),
        ):
            self._add(key, caption)
        self._grid.setColumnStretch(self._grid.columnCount(), 1)

    def _add(self, key: str, caption: str) -> None:
        column = len(self._values)
        title, value = QLabel(caption, self), QLabel("-", self)
        set_look(title, "caption")
        set_look(value, "value")
        self._grid.addWidget(title, 0, column)
        self._grid.addWidget(value, 1, column)
        self._titles[key], self._values[key] = title, value

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        """Leave out in a narrow window what the tool bar and the status line say as well."""
        widths = {
            key: max(title.sizeHint().width(), self._values[key].sizeHint().width()) + _GAP
            for key, title in self._titles.items()
        }
        needed = sum(widths.values()) - _GAP
        for key in _SAID_ELSEWHERE:
            wanted = needed <= self.width()
            needed -= 0 if wanted else widths[key]
            for label in (self._titles[key], self._values[key]):
                if label.isHidden() is wanted:
                    label.setVisible(wanted)

    def update_frame(
        self, snapshot: JobSnapshot, rates: Rates, exported: Exported | None = None
    ) -> None:
        """Show the totals of a snapshot and its rates, and how many clients there are."""
        done = snapshot.copied_bytes + snapshot.zeroed_bytes
        self._say(
            "copied",
            tr(
                "{done} of {size}",
                done=format_size(min(snapshot.offset, snapshot.length)),
                size=format_size(snapshot.length),
            ),
            tr(
                "{copied} bytes copied, {zeroed} bytes of zeroes, {done} in all",
                copied=f"{snapshot.copied_bytes:,}",
                zeroed=f"{snapshot.zeroed_bytes:,}",
                done=f"{done:,}",
            ),
        )
        self._say("left", format_size(snapshot.remaining), f"{snapshot.remaining:,} B")
        self._say(
            "again",
            tr("{size} (again)", size=format_size(snapshot.dirtied_bytes)),
            tr("{n} bytes made dirty by clients since the start", n=f"{snapshot.dirtied_bytes:,}"),
        )
        self._say("rate", _rate(rates), _rate_tip(rates))
        written = format_rate(rates.guest_written)
        if exported is not None:
            written = f"{written}, {connected_text(len(exported.clients))}"
        self._say("clients", written, tr("in the last 5 seconds"))
        limit = format_rate(snapshot.speed) if snapshot.speed else tr("none")
        self._say("limit", limit, limit_text(rates))
        blocking = snapshot.copy_mode is CopyMode.WRITE_BLOCKING
        self._say("mode", tr("write-blocking") if blocking else tr("background"), "")
        if self._changed:
            self._changed = False
            self._fit()

    def _say(self, key: str, text: str, tip: str) -> None:
        label = self._values[key]
        if label.text() != text:
            label.setText(text)
            self._changed = True
        if label.toolTip() != tip:
            label.setToolTip(tip)

    def text(self, key: str) -> str:
        """Return a number as it is shown: ``copied``, ``left``, ``again``, ``rate``, ..."""
        return self._values[key].text()


def _rate(rates: Rates) -> str:
    if rates.state in (EtaState.NOT_STARTED, EtaState.PAUSED, EtaState.OVER):
        return tr("avg {average}", average=format_rate(rates.average)) if rates.average else "-"
    return format_rate(rates.current)


def _rate_tip(rates: Rates) -> str:
    text = tr(
        "average {average}, peak {peak}",
        average=format_rate(rates.average),
        peak=format_rate(rates.peak),
    )
    return f"{text}, {limit_text(rates)}" if rates.limited else text


def _elapsed(rates: Rates) -> str:
    seconds = rates.active_ns // 1_000_000_000
    if seconds < 60:
        return tr("{n} s", n=seconds)
    minutes, rest = divmod(seconds, 60)
    if minutes < 60:
        return tr("{m} min {s} s", m=minutes, s=rest)
    return tr("{h} h {m} min", h=minutes // 60, m=minutes % 60)
