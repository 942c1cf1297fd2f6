"""Widths of tables' columns: by what is going to stand in them, for measuring rows costs time."""

from collections.abc import Sequence

from PySide6.QtCore import QAbstractItemModel, Qt
from PySide6.QtWidgets import QTableView

PADDING = 24
NARROW = 12
"""What style sheet and style put around a cell's text, in points: usually, and in narrow tables."""
_BESIDE_ICON = 8


def fit_columns(
    table: QTableView, samples: Sequence[Sequence[str]], padding: int = PADDING
) -> None:
    """Make columns as wide as the widest of their samples and their title; further ones stay.

    The first column may have an icon beside its text.

    Args:
        table: has its model.
        samples: for each column, from the left, texts as long as those that it will show.
        padding: around a text.
    """
    model: QAbstractItemModel = table.model()
    for column, texts in enumerate(samples):
        title = str(model.headerData(column, Qt.Orientation.Horizontal) or "")
        metrics = table.fontMetrics()
        widest = max(metrics.horizontalAdvance(text) for text in (title, *texts))
        icon = table.iconSize().width() + _BESIDE_ICON if column == 0 else 0
        table.setColumnWidth(column, widest + padding + icon)
