"""What the window remembers between two runs."""

from collections.abc import Iterable

from PySide6.QtCore import QByteArray, QSettings
from PySide6.QtWidgets import QMainWindow, QSplitter

from mirrorgui.nbd.constants import DEFAULT_PORT
from mirrorgui.ui.export_form import LOOPBACK, ExportValues, read_address, write_address
from mirrorgui.ui.heatmap.colors import Scheme
from mirrorgui.ui.theme import ThemeChoice

LAYOUT_VERSION = 1
"""Raised when the window is assembled differently: an old layout is then forgotten."""

MAX_RECENT = 10


class Settings:
    """A typed face over ``QSettings``. Never raises over what an older or newer version wrote."""

    def __init__(self, store: QSettings | None = None) -> None:
        self._store = store if store is not None else QSettings("mirrorgui", "mirrorgui")

    def save_layout(self, window: QMainWindow, splitters: Iterable[QSplitter]) -> None:
        """Remember a window's place, its docks and its splitters."""
        self._store.setValue("window/version", LAYOUT_VERSION)
        self._store.setValue("window/geometry", window.saveGeometry())
        self._store.setValue("window/state", window.saveState(LAYOUT_VERSION))
        for splitter in splitters:
            self._store.setValue(f"window/splitter-{splitter.objectName()}", splitter.saveState())

    def restore_layout(self, window: QMainWindow, splitters: Iterable[QSplitter]) -> bool:
        """Put a window where it was; False when nothing that fits is remembered."""
        if self._text("window/version") != str(LAYOUT_VERSION):
            return False
        restored = window.restoreGeometry(self._bytes("window/geometry"))
        window.restoreState(self._bytes("window/state"), LAYOUT_VERSION)
        for splitter in splitters:
            splitter.restoreState(self._bytes(f"window/splitter-{splitter.objectName()}"))
        return restored

    @property
    def recent(self) -> list[str]:
        """Sources used lately, the newest first."""
        value = self._store.value("recent", [])
        found = [value] if isinstance(value, str) else value
        if not isinstance(found, list):
            return []
        return [text for text in found if isinstance(text, str) and text][:MAX_RECENT]

    def add_recent(self, specification: str) -> None:
        """Put a source at the front of ``recent``."""
        rest = [text for text in self.recent if text != specification]
        self._store.setValue("recent", [specification, *rest][:MAX_RECENT])

    def clear_recent(self) -> None:
        """Forget all sources."""
        self._store.remove("recent")

    @property
    def theme(self) -> ThemeChoice:
        """Light, dark, or as the system."""
        try:
            return ThemeChoice(self._text("theme"))
        except ValueError:
            return ThemeChoice.SYSTEM

    @theme.setter
    def theme(self, choice: ThemeChoice) -> None:
        self._store.setValue("theme", choice.value)

    @property
    def scheme(self) -> Scheme:
        """Colours of the map."""
        try:
            return Scheme(self._text("map/scheme"))
        except ValueError:
            return Scheme.THEME

    @scheme.setter
    def scheme(self, scheme: Scheme) -> None:
        self._store.setValue("map/scheme", scheme.value)

    @property
    def folder(self) -> str:
        """The folder that a file was chosen from last; empty at first."""
        return self._text("folder")

    @folder.setter
    def folder(self, path: str) -> None:
        self._store.setValue("folder", path)

    @property
    def export(self) -> ExportValues:
        """How the source was offered last. Names, sockets and agreements are not remembered."""
        try:
            host, port = read_address(self._text("export/address"))
        except ValueError:
            host, port = LOOPBACK, DEFAULT_PORT
        return ExportValues(
            enabled=self._text("export/enabled") == "yes",
            unix=self._text("export/way") != "tcp",
            host=host,
            port=port,
            read_only=self._text("export/read-only") == "yes",
            certificates=self._text("export/certificates"),
        )

    @export.setter
    def export(self, values: ExportValues) -> None:
        self._store.setValue("export/enabled", "yes" if values.enabled else "no")
        if not values.enabled:
            return  # what was chosen before is offered again with the next export
        self._store.setValue("export/way", "unix" if values.unix else "tcp")
        self._store.setValue("export/read-only", "yes" if values.read_only else "no")
        if not values.unix:
            self._store.setValue("export/address", write_address(values.host, values.port))
            self._store.setValue("export/certificates", values.certificates)

    def sync(self) -> None:
        """Write everything to the disk now."""
        self._store.sync()

    def _text(self, key: str) -> str:
        value = self._store.value(key, "")
        return str(value) if isinstance(value, (str, int)) else ""

    def _bytes(self, key: str) -> QByteArray:
        value = self._store.value(key)
        return value if isinstance(value, QByteArray) else QByteArray()
