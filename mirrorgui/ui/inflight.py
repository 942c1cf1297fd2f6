"""The operations in flight: a slot for each, with its offset, length and age."""

import time

from PySide6.QtCore import QEvent, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFont, QFontMetricsF, QHelpEvent, QPainter, QPen
from PySide6.QtWidgets import QSizePolicy, QToolTip, QWidget

from mirrorgui.mirror.snapshot import JobSnapshot
from mirrorgui.ui.heatmap.marks import readable_on
from mirrorgui.ui.heatmap.texts import place
from mirrorgui.ui.i18n import tr
from mirrorgui.ui.inflight_slots import Pace, Slot, SlotBoard
from mirrorgui.ui.pixel_view import PixelView
from mirrorgui.ui.theme import colors, theme_of

SLOT_LETTERS = 15
"""A slot must have room for an offset and an age."""
GAP = 4.0
MARGIN = 12.0
DESCRIBE_S = 5.0
SMALL = 0.85


class InFlightPanel(PixelView):
    """A row of slots, one for each operation that may be in flight; two rows when it is narrow."""

    def __init__(self, parent: QWidget | None = None) -> None:
        self.board = SlotBoard()
        self._colors = colors(False)
        self._described_s = 0.0
        super().__init__(parent)
        self.add_painted(self._paint, 0)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName(tr("Operations in flight"))
        theme = theme_of()
        theme.changed.connect(self._theme_changed)
        self._theme_changed(theme.dark)
        self._fit_height()

    def update_frame(self, snapshot: JobSnapshot) -> None:
        """Show the operations of a snapshot."""
        self.board.update(snapshot)
        if not self.isVisible():
            return
        self.repaint_items()
        now = time.monotonic()
        if now - self._described_s >= DESCRIBE_S:
            self._described_s = now
            self.setAccessibleDescription(self.board.description)

    def clear(self) -> None:
        """Show no operation."""
        self.board.clear()
        self.repaint_items()

    def _theme_changed(self, dark: bool) -> None:
        self._colors = colors(dark)
        self.set_ground(self._colors.window)
        self.repaint_items()

    # ---- geometry -----------------------------------------------------------------------------

    def _small_font(self) -> QFont:
        font = QFont(self.font())
        font.setPointSizeF(max(self.font().pointSizeF() * SMALL, 6.0))
        return font

    def _row_height(self) -> float:
        return QFontMetricsF(self._small_font()).height() + 5

    def _head_width(self) -> float:
        metrics = QFontMetricsF(self.font())
        small = QFontMetricsF(self._small_font())
        count = metrics.horizontalAdvance(tr("In flight {count}", count="16 / 16"))
        return max(count, small.horizontalAdvance(tr("up to {size} each", size="64.0 MiB"))) + 18

    def _columns(self) -> int:
        letter = QFontMetricsF(self._small_font()).horizontalAdvance("0")
        room = self.width() - 2 * MARGIN - self._head_width()
        fit = max(int(room / (letter * SLOT_LETTERS)), 1)
        slots = len(self.board.slots)
        rows = -(-slots // min(fit, slots))
        return -(-slots // max(rows, 2 if fit < slots else 1))

    def _rows(self) -> int:
        return -(-len(self.board.slots) // self._columns())

    def slot_rect(self, number: int) -> QRectF:
        """Return where a slot is, in the widget's pixels."""
        columns, height = self._columns(), self._row_height()
        row, column = divmod(number, columns)
        left = MARGIN + self._head_width()
        width = (self.width() - MARGIN - left + GAP) / columns
        top = 2 + row * (height + GAP)
        return QRectF(left + column * width, top, width - GAP, height)

    def _fit_height(self) -> None:
        rows = max(self._rows(), 2)
        height = round(rows * (self._row_height() + GAP) - GAP + 4)
        if height != self.height():
            self.setFixedHeight(height)

    def sizeHint(self) -> QSize:
        return QSize(600, self.minimumHeight())

    def minimumSizeHint(self) -> QSize:
        return QSize(300, self.minimumHeight())

    def resized(self) -> None:
        self._fit_height()

    # ---- painting -----------------------------------------------------------------------------

    def _paint(self, painter: QPainter) -> None:
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        self._paint_head(painter)
        for number, slot in enumerate(self.board.slots):
            self._paint_slot(painter, self.slot_rect(number), slot)

    def _paint_head(self, painter: QPainter) -> None:
        width, height = self._head_width(), self._row_height()
        left = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
        painter.setFont(self.font())
        painter.setPen(QColor(self._colors.text))
        text = tr("In flight {count}", count=self.board.count_text)
        painter.drawText(QRectF(MARGIN, 2, width, height), left, text)
        painter.setFont(self._small_font())
        painter.setPen(QColor(self._colors.muted))
        below = self.board.cap_text
        if self.board.more:
            below = tr("{n} more from clients", n=self.board.more)
        painter.drawText(QRectF(MARGIN, 2 + height + GAP, width, height), left, below)

    def _paint_slot(self, painter: QPainter, rect: QRectF, slot: Slot | None) -> None:
        table = self._colors
        painter.setPen(QPen(QColor(table.border), 1))
        painter.setBrush(QColor(table.base) if slot else Qt.BrushStyle.NoBrush)
        painter.drawRoundedRect(rect.adjusted(0.5, 0.5, -0.5, -0.5), 4, 4)
        if slot is None:
            return
        fill = {
            Pace.GOOD: table.third if slot.guest else table.copy,
            Pace.SLOW: table.slow,
            Pace.HUNG: table.slow,
        }[slot.pace]
        tint = QColor(fill)
        tint.setAlphaF(0.28 if slot.pace is Pace.GOOD else 1.0)
        bar = rect.adjusted(1.5, 1.5, -1.5, -1.5)
        bar.setWidth(max(bar.width() * slot.share, 6))
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(tint)
        painter.drawRoundedRect(bar, 3, 3)
        self._write(painter, rect, slot, fill)

    def _write(self, painter: QPainter, rect: QRectF, slot: Slot, fill: str) -> None:
        font = self._small_font()
        font.setBold(slot.pace is Pace.HUNG)
        painter.setFont(font)
        loud = slot.pace is not Pace.GOOD and slot.share > 0.5
        painter.setPen(QColor(readable_on(fill) if loud else self._colors.text))
        inside = rect.adjusted(5, 0, -5, 0)
        middle = Qt.AlignmentFlag.AlignVCenter
        age = slot.age_text
        metrics = QFontMetricsF(font)
        age_width = metrics.horizontalAdvance(age)
        offset = place(slot.offset)
        for words in (offset, offset.replace(" ", "").removesuffix("iB")):
            if metrics.horizontalAdvance(words) + age_width + 4 <= inside.width():
                painter.drawText(inside, Qt.AlignmentFlag.AlignLeft | middle, words)
                painter.drawText(inside, Qt.AlignmentFlag.AlignRight | middle, age)
                return
        # Too narrow for both: what worries matters more than where it is.
        words = age if slot.pace is not Pace.GOOD else offset
        words = metrics.elidedText(words, Qt.TextElideMode.ElideRight, inside.width())
        painter.drawText(inside, Qt.AlignmentFlag.AlignLeft | middle, words)

    def viewportEvent(self, event: QEvent) -> bool:
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            for number, slot in enumerate(self.board.slots):
                if slot is not None and self.slot_rect(number).contains(event.pos()):
                    QToolTip.showText(event.globalPos(), slot.details, self)
                    return True
            QToolTip.hideText()
            return True
        return bool(super().viewportEvent(event))
