import pytest
from PySide6.QtGui import QColor, QPalette

from mirrorgui.ui import theme
from mirrorgui.ui.theme import ThemeChoice, colors, is_dark, theme_of


def luminance(name):
    parts = [value / 255 for value in QColor(name).getRgb()[:3]]
    red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(first, second):
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("ground", ["window", "base", "raised"])
def test_every_writing_is_readable_on_every_ground(dark, ground):
    table = colors(dark)
    for text in ("text", "muted", "good", "warning", "danger"):
        assert contrast(getattr(table, text), getattr(table, ground)) >= 4.5, text


@pytest.mark.parametrize("dark", [False, True])
def test_bars_and_buttons_are_readable(dark):
    table = colors(dark)
    for kind in ("good", "warning", "danger"):
        assert contrast(table.text, getattr(table, f"{kind}_ground")) >= 7
        assert contrast(getattr(table, kind), getattr(table, f"{kind}_ground")) >= 4.5
    assert contrast(table.on_accent, table.accent) >= 3.5


@pytest.mark.parametrize("dark", [False, True])
def test_curves_stand_out_from_their_ground(dark):
    table = colors(dark)
    for curve in ("copy", "guest", "limit", "third"):
        assert contrast(getattr(table, curve), table.base) >= 3, curve


def test_choice_sets_palette_and_tells(qapp):
    heard = []
    chosen = theme_of(qapp)
    chosen.changed.connect(heard.append)
    try:
        chosen.choose(ThemeChoice.DARK)
        assert is_dark(qapp)
        assert chosen.dark
        assert qapp.palette().color(QPalette.ColorRole.Window) == QColor(colors(True).window)
        chosen.choose(ThemeChoice.DARK)
        chosen.choose(ThemeChoice.LIGHT)
        assert not is_dark(qapp)
        assert theme.current(qapp) is colors(False)
        assert heard == [True, False]
        assert chosen.choice is ThemeChoice.LIGHT
    finally:
        chosen.changed.disconnect(heard.append)
        chosen.choose(ThemeChoice.LIGHT)


def test_there_is_one_theme_for_an_application(qapp):
    assert theme_of(qapp) is theme_of()
