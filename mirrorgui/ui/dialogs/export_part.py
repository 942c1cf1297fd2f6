"""The part of the New mirror form that offers the source to others meanwhile."""

from dataclasses import replace

from PySide6.QtCore import Signal
from PySide6.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLineEdit,
    QRadioButton,
    QVBoxLayout,
    QWidget,
)

from mirrorgui.runtime import free_socket_path
from mirrorgui.ui.dialogs.image_part import PathField
from mirrorgui.ui.export_form import (
    ExportValues,
    automatic_name,
    explanation,
    read_address,
    write_address,
)
from mirrorgui.ui.i18n import tr
from mirrorgui.ui.wrapping import Explained, TickBox


class ExportPart(QGroupBox):
    """Chooses whether and where the source is offered over NBD.

    Signals:
        edited: something was changed that has to be looked at.
        agreed: the tick for other machines was set or taken away.
    """

    edited = Signal()
    agreed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(tr("Who uses the source"), parent)
        self.enabled = TickBox(self)
        self.enabled.set_text(tr("Offer the source to virtual machines while it is mirrored"))
        self._enabled_row = Explained(self.enabled, self)
        self.details = QWidget(self)
        self.unix = QRadioButton(tr("Unix socket"), self.details)
        self.tcp = QRadioButton(tr("TCP"), self.details)
        self._ways = QButtonGroup(self)
        self.socket = PathField(tr("Socket for clients"), self.details)
        self.address = QLineEdit(self.details)
        self.name = QLineEdit(self.details)
        self.certificates = PathField(tr("Folder with TLS certificates"), self.details)
        self._tls_row = Explained(self.certificates, self.details)
        self.read_only = QCheckBox(tr("Clients may only read"), self.details)
        self.remote = TickBox(self.details)
        self._form = QFormLayout(self.details)
        self._lay_out()
        self._connect()
        self.fill(ExportValues())

    def _lay_out(self) -> None:
        for button in (self.unix, self.tcp):
            self._ways.addButton(button)
        ways = QHBoxLayout()
        ways.setSpacing(18)
        ways.addWidget(self.unix)
        ways.addWidget(self.tcp)
        ways.addStretch(1)
        naming = QHBoxLayout()
        naming.setSpacing(14)
        naming.addWidget(self.name, 1)
        naming.addWidget(self.read_only)
        self.address.setAccessibleName(tr("Address for clients"))
        self.name.setAccessibleName(tr("Export name"))
        self.certificates.setPlaceholderText(tr("None: no encryption"))
        self._tls_row.explain(tr("ca-cert.pem, server-cert.pem and server-key.pem"))
        form = self._form
        form.setContentsMargins(0, 0, 0, 0)
        form.setVerticalSpacing(8)
        form.addRow(tr("Way"), ways)
        form.addRow(tr("Socket"), self.socket)
        form.addRow(tr("Address"), self.address)
        form.addRow(tr("TLS"), self._tls_row)
        form.addRow(tr("Name"), naming)
        form.addRow(self.remote)
        column = QVBoxLayout(self)
        column.setContentsMargins(14, 8, 14, 12)
        column.setSpacing(10)
        column.addWidget(self._enabled_row)
        column.addWidget(self.details)

    def _connect(self) -> None:
        self.enabled.toggled.connect(self._changed)
        self.read_only.toggled.connect(self._place_changed)
        self._ways.buttonToggled.connect(self._way_toggled)
        for field in (self.socket, self.address, self.certificates):
            field.textChanged.connect(self._place_changed)
        self.name.textChanged.connect(self._changed)
        self.remote.toggled.connect(self.agreed)

    def _way_toggled(self, _button: QRadioButton, checked: bool) -> None:
        if checked:
            self._place_changed()

    def _place_changed(self) -> None:
        # Agreeing to one address must never be taken for agreeing to another.
        self.remote.blockSignals(True)
        self.remote.set_checked(False)
        self.remote.blockSignals(False)
        self._changed()

    def _changed(self) -> None:
        self._show()
        self.edited.emit()

    def _show(self) -> None:
        unix = self.unix.isChecked()
        self.details.setVisible(self.enabled.is_checked())
        self._form.setRowVisible(self.socket, unix)
        self._form.setRowVisible(self.address, not unix)
        self._form.setRowVisible(self._tls_row, not unix)
        self._enabled_row.explain(explanation(self.values()))

    def mistakes(self) -> tuple[tuple[str, str], ...]:
        """Return the fields that cannot be read, each with the reason."""
        if not self.enabled.is_checked() or self.unix.isChecked():
            return ()
        try:
            read_address(self.address.text())
        except ValueError as error:
            return (("export", f"{error}."),)
        return ()

    def values(self) -> ExportValues:
        """Return what is filled in; an address that cannot be read is the default one."""
        unix = self.unix.isChecked()
        found = ExportValues(
            enabled=self.enabled.is_checked(),
            unix=unix,
            socket_path=self.socket.text().strip(),
            name=self.name.text().strip(),
            read_only=self.read_only.isChecked(),
            certificates="" if unix else self.certificates.text().strip(),
            allow_remote=self.remote.is_checked() and not self.remote.isHidden(),
        )
        try:
            host, port = read_address(self.address.text())
        except ValueError:
            return found
        return replace(found, host=host, port=port)

    def fill(self, values: ExportValues) -> None:
        """Show values; an empty socket becomes a free one in this user's own folder."""
        self.socket.setText(values.socket_path or str(free_socket_path()))
        self.address.setText(write_address(values.host, values.port))
        self.name.setText(values.name)
        self.certificates.setText(values.certificates)
        self.read_only.setChecked(values.read_only)
        (self.unix if values.unix else self.tcp).setChecked(True)
        self.enabled.set_checked(values.enabled)
        self.remote.set_checked(values.allow_remote)
        self._show()

    def show_look(self, source: str, tick: str) -> None:
        """Show the name that is made of the source, and what has to be agreed to."""
        self.name.setPlaceholderText(automatic_name(source))
        self.remote.setVisible(bool(tick))
        if tick:
            self.remote.set_text(tick)
