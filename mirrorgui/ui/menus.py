"""The menu bar."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from PySide6.QtGui import QAction, QActionGroup
from PySide6.QtWidgets import QMainWindow, QMenu

from mirrorgui.ui.actions import Actions
from mirrorgui.ui.availability import Act
from mirrorgui.ui.heatmap.colors import Scheme
from mirrorgui.ui.i18n import tr
from mirrorgui.ui.names import short_name
from mirrorgui.ui.theme import ThemeChoice

_Choice = TypeVar("_Choice")
_Labels = Sequence[tuple[_Choice, str]]


class Menus:
    """Fills a window's menu bar; keeps the menus whose content changes."""

    def __init__(self, window: QMainWindow, actions: Actions, speed_menu: QMenu) -> None:
        self._bar = window.menuBar()
        self._actions = actions
        self.recent = QMenu(tr("&Recent sources"), window)
        self.themes: dict[ThemeChoice, QAction] = {}
        self.schemes: dict[Scheme, QAction] = {}
        self._fill_file()
        self._fill_job(speed_menu)
        self._fill_view()
        help_menu = self._bar.addMenu(tr("&Help"))
        help_menu.addActions([actions.keys, actions.about])
        # Keys only: what they do is in other menus, or moves the focus that a menu would take.
        for hidden in (actions.next_pane, actions.previous_pane, actions.do[Act.SPEED]):
            window.addAction(hidden)

    def _fill_file(self) -> None:
        menu = self._bar.addMenu(tr("&File"))
        menu.addActions([self._actions.new, self._actions.open])
        menu.addMenu(self.recent)
        menu.addAction(self._actions.demonstrate)
        menu.addSeparator()
        menu.addActions([self._actions.close, self._actions.quit])

    def _fill_job(self, speed_menu: QMenu) -> None:
        do = self._actions.do
        menu = self._bar.addMenu(tr("&Job"))
        menu.setToolTipsVisible(True)
        menu.addActions([do[Act.PAUSE], do[Act.RESUME]])
        menu.addMenu(speed_menu)
        menu.addSeparator()
        menu.addActions([do[Act.COMPLETE], do[Act.FINISH]])
        menu.addSeparator()
        menu.addActions([do[Act.WRITE_BLOCKING], do[Act.POLICY]])
        menu.addSeparator()
        menu.addActions([do[Act.CANCEL], do[Act.RETRY], do[Act.REMOVE]])

    def _fill_view(self) -> None:
        actions = self._actions
        menu = self._bar.addMenu(tr("&View"))
        menu.addActions([actions.map, actions.charts, actions.errors, actions.clients, actions.log])
        menu.addSeparator()
        menu.addAction(actions.find)
        menu.addSeparator()
        menu.addActions([actions.zoom_in, actions.zoom_out, actions.fit, actions.picture])
        menu.addSeparator()
        menu.addAction(actions.full_screen)
        self._offer(
            menu.addMenu(tr("&Theme")),
            self.themes,
            (
                (ThemeChoice.SYSTEM, tr("As the &system")),
                (ThemeChoice.LIGHT, tr("&Light")),
                (ThemeChoice.DARK, tr("&Dark")),
            ),
        )
        self._offer(
            menu.addMenu(tr("Map colou&rs")),
            self.schemes,
            (
                (Scheme.THEME, tr("As the &theme")),
                (Scheme.MONOCHROME, tr("&Monochrome")),
            ),
        )

    @staticmethod
    def _offer(menu: QMenu, actions: dict[_Choice, QAction], labels: _Labels[_Choice]) -> None:
        """Fill a menu with choices of which one is in force."""
        group = QActionGroup(menu)
        for choice, label in labels:
            action = menu.addAction(label)
            action.setCheckable(True)
            group.addAction(action)
            actions[choice] = action

    def set_recent(self, specifications: list[str], chosen: Callable[[str], None]) -> None:
        """Offer sources used before; ``chosen`` gets the one that was picked."""
        self.recent.clear()
        self.recent.setToolTipsVisible(True)
        self.recent.setEnabled(bool(specifications))
        for specification in specifications:
            action = self.recent.addAction(short_name(specification).replace("&", "&&"))
            action.setToolTip(specification)
            action.setData(specification)
            action.triggered.connect(lambda _checked=False, each=specification: chosen(each))
        self.recent.addSeparator()
        self.recent.addAction(self._actions.clear_recent)
