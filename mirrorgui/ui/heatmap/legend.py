"""The legend: what each colour means, and how many bytes are in that state."""

from PySide6.QtCore import QPointF, Qt
from PySide6.QtGui import QColor, QPainter, QPen, QPixmap
from PySide6.QtWidgets import QGridLayout, QLabel, QWidget

from mirrorgui.ui.heatmap import colors, marks, texts
from mirrorgui.ui.heatmap.cells import ChunkState
from mirrorgui.ui.heatmap.colors import MapPalette
from mirrorgui.ui.heatmap.frame import MapFrame
from mirrorgui.ui.i18n import tr
from mirrorgui.units import format_size

SWATCH = 18.0

ORDER = (
    ChunkState.IN_SYNC,
    ChunkState.TO_COPY,
    ChunkState.AGAIN,
    ChunkState.IN_FLIGHT,
    ChunkState.FAILED,
    ChunkState.NOT_ALLOCATED,
)


class Legend(QWidget):
    """States with their colours, marks and sums in bytes."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(8)
        grid.setVerticalSpacing(4)
        grid.setColumnStretch(1, 1)
        self._swatches: dict[ChunkState, QLabel] = {}
        self._values: dict[ChunkState, QLabel] = {}
        for row, state in enumerate(ORDER):
            self._add_row(grid, row, state)
        self._ramp = QLabel(self)
        self._ramp_words = QLabel(tr("cells in part to copy: little ... all"), self)
        self._ramp_words.setProperty("look", "caption")
        grid.addWidget(self._ramp, len(ORDER), 0, 1, 3)
        grid.addWidget(self._ramp_words, len(ORDER) + 1, 0, 1, 3)

    def _add_row(self, grid: QGridLayout, row: int, state: ChunkState) -> None:
        swatch, value = QLabel(self), QLabel("-", self)
        name = QLabel(texts.state_name(state), self)
        value.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        value.setMinimumWidth(value.fontMetrics().horizontalAdvance("1023.9 MiB"))
        for label in (swatch, name, value):
            label.setToolTip(texts.state_help(state))
        grid.addWidget(swatch, row, 0)
        grid.addWidget(name, row, 1)
        grid.addWidget(value, row, 2)
        self._swatches[state], self._values[state] = swatch, value

    def set_map_palette(self, palette: MapPalette) -> None:
        """Use other colours."""
        ratio = self.devicePixelRatioF()
        for state, label in self._swatches.items():
            label.setPixmap(swatch(state, palette, ratio))
        self._ramp.setPixmap(ramp(palette, ratio))

    def set_mixed(self, mixed: bool) -> None:
        """Explain cells of several chunks, when there are such."""
        self._ramp.setVisible(mixed)
        self._ramp_words.setVisible(mixed)

    def update_frame(self, frame: MapFrame) -> None:
        """Show the sums of a frame."""
        amounts = frame.bytes_by_state()
        for state, label in self._values.items():
            text = format_size(amounts[state])
            if label.text() != text:
                label.setText(text)
                label.setToolTip(f"{texts.grouped(amounts[state])} B\n{texts.state_help(state)}")

    def value(self, state: ChunkState) -> str:
        """Return the sum of a state as shown."""
        return self._values[state].text()


def swatch(state: ChunkState, palette: MapPalette, ratio: float) -> QPixmap:
    """Draw a cell in a state."""
    pixels = round(SWATCH * ratio)
    made = QPixmap(pixels, pixels)
    made.setDevicePixelRatio(ratio)
    made.fill(Qt.GlobalColor.transparent)
    painter = QPainter(made)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    body = marks.body(0, 0, SWATCH)
    fill = palette.to_copy if state is ChunkState.IN_FLIGHT else palette.of(state)
    hatched = state is ChunkState.NOT_ALLOCATED
    painter.setBrush(marks.hatch_brush(ratio, palette) if hatched else QColor(fill))
    painter.setPen(Qt.PenStyle.NoPen)
    painter.drawRoundedRect(body, 2, 2)
    if state is ChunkState.IN_FLIGHT:
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.setPen(QPen(QColor(palette.in_flight), 2))
        painter.drawRect(body.adjusted(1, 1, -1, -1))
    elif state is ChunkState.FAILED:
        painter.drawPixmap(QPointF(0, 0), marks.cross(SWATCH, ratio, palette))
    painter.end()
    return made


def ramp(palette: MapPalette, ratio: float) -> QPixmap:
    """Draw the colours of cells that are to copy in part: first time above, again below."""
    table = colors.lookup_table(palette)
    side, rows = SWATCH, 2
    made = QPixmap(round(side * colors.STEPS * ratio), round(side / 2 * rows * ratio))
    made.setDevicePixelRatio(ratio)
    made.fill(Qt.GlobalColor.transparent)
    painter = QPainter(made)
    for row, begin in enumerate((colors.IN_SYNC, colors.TO_COPY)):
        for step in range(1, colors.STEPS + 1):
            red, green, blue, _ = table[begin + step].tolist()
            x, y = (step - 1) * side, row * side / 2
            body = marks.body(x, y, side).adjusted(0, 0, 0, -side / 2 + 1)
            painter.fillRect(body, QColor(red, green, blue))
    painter.end()
    return made
