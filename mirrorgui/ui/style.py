"""The window's style sheet: sizes by font, colours by theme. Inputs stay as Fusion draws them.

Widgets ask for a look by the dynamic property ``look``: ``title``, ``state``, ``value``,
``caption``, ``muted``, ``card``, ``primary``, ``danger``, ``reason``, ``bar-...``.
"""

from PySide6.QtWidgets import QApplication, QWidget

from mirrorgui.ui.assets import resource_folder
from mirrorgui.ui.theme import ThemeColors, current, theme_of

_SHEET = """
QLabel[look="title"] {{ font-size: {large}pt; font-weight: 600; }}
QLabel[look="hero"] {{ font-size: {hero}pt; font-weight: 600; }}
QLabel[look="state"] {{ font-size: {large}pt; font-weight: 600; }}
QLabel[look="value"] {{ font-weight: 600; }}
QLabel[look="section"] {{ font-weight: 600; }}
QLabel[look="caption"], QLabel[look="muted"] {{ color: {muted}; }}
QLabel[look="caption"] {{ font-size: {small}pt; }}
QLabel[look="problem"] {{ color: {danger}; }}
QLabel[look="caution"] {{ color: {warning}; }}
QLabel[look="fine"] {{ color: {good}; }}
QLabel[tone="active"] {{ color: {accent_text}; }}
QLabel[tone="good"] {{ color: {good}; }}
QLabel[tone="attention"] {{ color: {warning}; }}
QLabel[tone="error"] {{ color: {danger}; }}

QFrame[look="card"] {{ background: {base}; border: 1px solid {border}; border-radius: 8px; }}
QFrame[look="drop"] {{ background: {base}; border: 2px dashed {border}; border-radius: 14px; }}
QFrame[look="drop"][over="true"] {{ border-color: {accent}; background: {raised}; }}
QFrame[look="bar-neutral"] {{ background: {raised}; border: 1px solid {border};
    border-radius: 6px; }}
QFrame[look="bar-active"] {{ background: {raised}; border: 1px solid {accent};
    border-radius: 6px; }}
QFrame[look="bar-good"] {{ background: {good_ground}; border: 1px solid {good};
    border-radius: 6px; }}
QFrame[look="bar-attention"] {{ background: {warning_ground}; border: 1px solid {warning};
    border-radius: 6px; }}
QFrame[look="bar-error"] {{ background: {danger_ground}; border: 1px solid {danger};
    border-radius: 6px; }}

QPushButton, QToolButton[look="button"] {{
    padding: 5px 14px; border: 1px solid {border}; border-radius: 6px; background: {raised}; }}
QPushButton:hover, QToolButton[look="button"]:hover {{ border-color: {muted}; }}
QPushButton:pressed, QToolButton[look="button"]:pressed {{ background: {grid}; }}
QPushButton:focus, QToolButton[look="button"]:focus {{ border: 2px solid {accent};
    padding: 4px 13px; }}
QPushButton:disabled, QToolButton[look="button"]:disabled {{ color: {faint};
    background: transparent; }}
QToolButton[look="button"][menued="true"] {{ padding-right: 26px; }}
QToolButton[look="button"]::menu-indicator {{ subcontrol-position: right center; right: 8px; }}
QPushButton[look="primary"] {{ background: {accent}; color: {on_accent};
    border-color: {accent}; font-weight: 600; }}
QPushButton[look="primary"]:hover {{ border-color: {text}; }}
QPushButton[look="primary"]:focus {{ border: 2px solid {text}; }}
QPushButton[look="primary"]:disabled {{ background: {grid}; color: {faint};
    border-color: {border}; }}
QPushButton[look="danger"] {{ background: {danger}; color: {base}; border-color: {danger};
    font-weight: 600; }}
QPushButton[look="danger"]:focus {{ border: 2px solid {text}; }}
QPushButton[look="danger"]:disabled {{ background: {grid}; color: {faint};
    border-color: {border}; }}
QPushButton[look="link"] {{ border: none; background: transparent; color: {accent_text};
    padding: 3px 6px; text-align: left; }}
QPushButton[look="link"]:hover {{ text-decoration: underline; }}
QPushButton[look="link"]:focus {{ border: 1px solid {accent}; padding: 2px 5px; }}

#toolbar {{ background: {window}; border: none; border-bottom: 1px solid {border}; }}
#toolbar QToolButton {{ padding: 5px 10px; border-radius: 6px; border: 1px solid {border};
    background: {raised}; }}
#toolbar QToolButton:hover {{ border-color: {muted}; }}
#toolbar QToolButton:pressed {{ background: {grid}; }}
#toolbar QToolButton:focus {{ border: 2px solid {accent}; padding: 4px 9px; }}
#toolbar QToolButton:disabled {{ color: {faint}; background: transparent; }}
#toolbar QToolButton[menued="true"] {{ padding-right: 20px; }}
#toolbar QToolButton::menu-indicator {{ subcontrol-position: right center; right: 6px; }}
#toolbar QToolButton[look="primary"] {{ background: {accent}; color: {on_accent};
    border-color: {accent}; font-weight: 600; }}
#toolbar QToolButton[look="primary"]:focus {{ border-color: {text}; }}

QLineEdit, QComboBox {{ background: {base}; color: {text}; border: 1px solid {edge};
    border-radius: 6px; padding: 4px 8px; selection-background-color: {accent};
    selection-color: {on_accent}; min-height: {line}px; }}
QLineEdit:hover, QComboBox:hover {{ border-color: {muted}; }}
QLineEdit:focus, QComboBox:focus {{ border: 2px solid {accent}; padding: 3px 7px; }}
QLineEdit:disabled, QComboBox:disabled {{ color: {faint}; background: {window}; }}
QComboBox QLineEdit {{ border: none; padding: 0; background: transparent; min-height: 0; }}
QComboBox::drop-down {{ border: none; width: 24px; }}
QComboBox::down-arrow {{ image: url({controls}/down-{tone}.svg); width: 14px; height: 14px; }}
QComboBox QAbstractItemView {{ background: {base}; border: 1px solid {border};
    selection-background-color: {accent}; selection-color: {on_accent}; outline: none; }}
QCheckBox, QRadioButton {{ spacing: 8px; }}
QCheckBox:disabled, QRadioButton:disabled {{ color: {faint}; }}
QCheckBox::indicator, QRadioButton::indicator {{ width: 14px; height: 14px;
    border: 1px solid {muted}; background: {base}; }}
QCheckBox::indicator {{ border-radius: 4px; }}
QRadioButton::indicator {{ border-radius: 8px; }}
QCheckBox::indicator:hover, QRadioButton::indicator:hover {{ border-color: {text}; }}
QCheckBox::indicator:focus, QRadioButton::indicator:focus {{ border: 2px solid {accent};
    width: 12px; height: 12px; }}
QCheckBox::indicator:checked {{ background: {accent}; border-color: {accent};
    image: url({controls}/check.svg); }}
QCheckBox::indicator:checked:focus {{ border-color: {text}; }}
QRadioButton::indicator:checked {{ border-color: {accent};
    background: qradialgradient(cx:0.5, cy:0.5, radius:0.5, fx:0.5, fy:0.5,
        stop:0 {accent}, stop:0.55 {accent}, stop:0.62 {base}, stop:1 {base}); }}
QCheckBox::indicator:disabled, QRadioButton::indicator:disabled {{ border-color: {border};
    background: {window}; }}

QProgressBar {{ border: none; border-radius: 4px; background: {track}; max-height: 8px;
    min-height: 8px; }}
QProgressBar::chunk {{ border-radius: 4px; background: {copy}; }}
QProgressBar[tone="good"]::chunk {{ background: {good}; }}
QProgressBar[tone="attention"]::chunk {{ background: {warning}; }}
QProgressBar[tone="error"]::chunk {{ background: {danger}; }}

QTabWidget::pane {{ border: none; border-top: 1px solid {border}; }}
QTabBar::tab {{ padding: 7px 14px; border: none; border-bottom: 2px solid transparent;
    color: {muted}; background: transparent; }}
QTabBar::tab:selected {{ color: {text}; border-bottom-color: {accent}; }}
QTabBar::tab:hover {{ color: {text}; }}
QTabBar::tab:focus {{ color: {accent_text}; }}

QSplitter::handle {{ background: {border}; }}
QSplitter::handle:horizontal {{ width: 1px; }}
QSplitter::handle:vertical {{ height: 1px; }}
QFrame#exports {{ border-top: 1px solid {border}; }}
QStatusBar {{ border-top: 1px solid {border}; color: {muted}; }}
QStatusBar::item {{ border: none; }}
QHeaderView::section {{ background: {raised}; border: none; border-bottom: 1px solid {border};
    padding: 5px 8px; color: {muted}; }}
QTableView, QListView {{ background: {base}; border: 1px solid {border}; border-radius: 6px;
    gridline-color: {grid}; }}
QTableView::item {{ padding: 2px 8px; }}
QTableView[look="narrow"]::item {{ padding: 2px 3px; }}
QListView[look="side"] {{ border: none; background: transparent; outline: none; }}
QListView[look="side"]::item {{ border-left: 3px solid transparent; color: {text}; }}
QListView[look="side"]::item:hover {{ background: {raised}; }}
QListView[look="side"]::item:selected {{ background: {base}; border-left-color: {accent};
    color: {text}; }}
QListView[look="side"]:focus {{ border: 1px solid {accent}; }}
QGroupBox {{ border: 1px solid {border}; border-radius: 8px; background: {raised};
    font-weight: 600;
    padding-top: {title_room}px; }}
QGroupBox::title {{ subcontrol-origin: border; subcontrol-position: top left; left: 11px;
    top: 9px; }}
"""


def sheet(colors: ThemeColors, points: float) -> str:
    """Write the style sheet for a theme and the system's font size in points."""
    names = {name: getattr(colors, name) for name in colors.__slots__ if name != "dark"}
    return _SHEET.format(
        **names,
        faint="#6E767F" if colors.dark else "#9AA2AB",
        track="#33383F" if colors.dark else "#DDE1E6",
        accent_text="#7DB6EC" if colors.dark else colors.accent,
        large=round(points * 1.25, 1),
        hero=round(points * 1.8, 1),
        small=round(points * 0.9, 1),
        title_room=round(points * 2.0),
        line=round(points * 1.75),
        edge="#4A515A" if colors.dark else "#B9C0C8",
        tone="dark" if colors.dark else "light",
        controls=(resource_folder() / "icons" / "controls").as_posix(),
    )


def apply(app: QApplication) -> None:
    """Style the application now, and again whenever light and dark change places. Idempotent."""
    if app.property("styled"):
        return  # or each change would style every widget several times
    app.setProperty("styled", True)

    def restyle() -> None:
        app.setStyleSheet(sheet(current(app), app.font().pointSizeF()))

    theme_of(app).changed.connect(restyle)
    restyle()


def set_look(widget: QWidget, look: str, name: str = "look") -> None:
    """Give a widget another look; nothing happens when it has it already."""
    if widget.property(name) == look:
        return
    widget.setProperty(name, look)
    widget.style().unpolish(widget)
    widget.style().polish(widget)
