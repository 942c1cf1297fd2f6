"""The rows of the New mirror form that say how a new file is made."""

from collections.abc import Mapping

from PySide6.QtCore import QObject, Signal
from PySide6.QtWidgets import QCheckBox, QComboBox, QFormLayout, QWidget

from mirrorgui.ui.creation_form import (
    CLUSTER_SIZES,
    DEFAULT_CLUSTER_SIZE,
    CreationValues,
    lazy_text,
    preallocation_label,
    preallocation_text,
    preallocations,
)
from mirrorgui.ui.fields import SizeField
from mirrorgui.ui.i18n import tr
from mirrorgui.ui.wrapping import Explained


class CreationRows(QObject):
    """Cluster size, reserved space and lazy refcounts, as far as the format has them.

    Args:
        form: where the rows are put.
        parent: their parent.

    Signals:
        edited: something was changed.
    """

    edited = Signal()

    def __init__(self, form: QFormLayout, parent: QWidget) -> None:
        super().__init__(parent)
        self._form = form
        self.cluster_size = SizeField(CLUSTER_SIZES, typed=False, parent=parent)
        self.cluster_size.setAccessibleName(tr("Cluster size"))
        self.cluster_size.set_automatic(DEFAULT_CLUSTER_SIZE)
        self.cluster_size_row = Explained(self.cluster_size, parent)
        self.preallocation = QComboBox(parent)
        self.preallocation.setAccessibleName(tr("Reserved space"))
        self.preallocation_row = Explained(self.preallocation, parent)
        self.lazy_refcounts = QCheckBox(tr("Lazy refcounts"), parent)
        self.lazy_refcounts_row = Explained(self.lazy_refcounts, parent)
        self._has_backing = False
        self._wanted = "off"
        form.addRow(tr("Cluster si&ze"), self.cluster_size_row)
        form.addRow(tr("Reserved space"), self.preallocation_row)
        form.addRow("", self.lazy_refcounts_row)
        self._offer(("off",))
        self.show_format("", has_backing=False)
        self.show_problems({})
        self.cluster_size.size_edited.connect(self.edited)
        self.preallocation.currentIndexChanged.connect(self._preallocation_chosen)
        self.lazy_refcounts.toggled.connect(self.edited)

    def values(self) -> CreationValues:
        """Return what is filled in."""
        return CreationValues(
            cluster_size=self.cluster_size.size_bytes(),
            preallocation=str(self.preallocation.currentData()),
            lazy_refcounts=self.lazy_refcounts.isChecked(),
        )

    def fill(self, values: CreationValues) -> None:
        """Show values."""
        self.cluster_size.set_size_bytes(values.cluster_size)
        self._wanted = wanted = values.preallocation
        self._choose_wanted()
        self._wanted = wanted  # also where it can be chosen only once the format is known
        self.lazy_refcounts.setChecked(values.lazy_refcounts)

    def show_format(self, image_format: str, *, has_backing: bool) -> None:
        """Show what a new file of a format can have.

        Args:
            image_format: QEMU's name; an empty one hides everything.
            has_backing: the file will have a backing file.
        """
        qcow2 = image_format == "qcow2"
        self._form.setRowVisible(self.cluster_size_row, qcow2)
        self._form.setRowVisible(self.lazy_refcounts_row, qcow2)
        self._form.setRowVisible(self.preallocation_row, image_format in ("raw", "qcow2"))
        self._has_backing = has_backing
        if image_format:
            self._offer(preallocations(image_format, has_backing=has_backing))
        self.preallocation.setEnabled(not has_backing)

    def show_problems(self, problems: Mapping[str, str]) -> None:
        """Explain the choices, or say what is wrong with them.

        Args:
            problems: by the names of the options, in QEMU's words.
        """
        usual = {
            "cluster_size": "",
            "preallocation": preallocation_text(
                str(self.preallocation.currentData()), has_backing=self._has_backing
            ),
            "lazy_refcounts": lazy_text(),
        }
        rows = {
            "cluster_size": self.cluster_size_row,
            "preallocation": self.preallocation_row,
            "lazy_refcounts": self.lazy_refcounts_row,
        }
        for name, row in rows.items():
            row.explain(problems.get(name, usual[name]), problem=name in problems)

    def _offered(self) -> tuple[str, ...]:
        count = self.preallocation.count()
        return tuple(str(self.preallocation.itemData(index)) for index in range(count))

    def _offer(self, choices: tuple[str, ...]) -> None:
        """Offer ways to reserve space; what was chosen comes back when it is among them again."""
        if choices == self._offered():
            return
        self.preallocation.blockSignals(True)
        self.preallocation.clear()
        for choice in choices:
            self.preallocation.addItem(preallocation_label(choice), choice)
        self._choose_wanted()
        self.preallocation.blockSignals(False)

    def _choose_wanted(self) -> None:
        self.preallocation.setCurrentIndex(max(self.preallocation.findData(self._wanted), 0))

    def _preallocation_chosen(self) -> None:
        self._wanted = str(self.preallocation.currentData())
        self.edited.emit()
