from PySide6.QtCore import Qt
from PySide6.QtWidgets import QMainWindow, QSplitter

from mirrorgui.ui.heatmap.colors import Scheme
from mirrorgui.ui.settings import MAX_RECENT, Settings
from mirrorgui.ui.theme import ThemeChoice


def test_recent_sources_are_few_and_the_newest_comes_first(settings):
    for number in range(MAX_RECENT + 3):
        settings.add_recent(f"/vm/{number}.img")
    settings.add_recent("/vm/5.img")
    assert settings.recent[0] == "/vm/5.img"
    assert len(settings.recent) == MAX_RECENT
    assert settings.recent.count("/vm/5.img") == 1
    settings.clear_recent()
    assert settings.recent == []


def test_one_recent_source_comes_back_as_a_list(settings, store, tmp_path):
    settings.add_recent("/vm/a, b.img")
    settings.sync()
    assert Settings(store).recent == ["/vm/a, b.img"]


def test_theme_and_folder_are_remembered(settings):
    assert settings.theme is ThemeChoice.SYSTEM
    settings.theme = ThemeChoice.DARK
    settings.folder = "/vm"
    assert settings.theme is ThemeChoice.DARK
    assert settings.folder == "/vm"


def test_nonsense_in_the_file_is_no_error(settings, store):
    store.setValue("theme", "pink")
    store.setValue("recent", {"a": 1})
    store.setValue("window/version", 1)
    store.setValue("window/geometry", "no bytes")
    store.setValue("map/scheme", "rainbow")
    assert settings.theme is ThemeChoice.SYSTEM
    assert settings.scheme is Scheme.THEME
    assert settings.recent == []
    window = QMainWindow()
    assert not settings.restore_layout(window, ())


def test_a_layout_comes_back_unless_it_is_of_another_version(settings, store):
    window = QMainWindow()
    splitter = QSplitter(Qt.Orientation.Horizontal)
    splitter.setObjectName("jobs")
    window.setCentralWidget(splitter)
    window.resize(801, 555)
    settings.save_layout(window, (splitter,))
    again = QMainWindow()
    other = QSplitter(Qt.Orientation.Horizontal)
    other.setObjectName("jobs")
    again.setCentralWidget(other)
    assert settings.restore_layout(again, (other,))
    assert (again.width(), again.height()) == (801, 555) or again.width() <= 801
    store.setValue("window/version", 99)
    assert not settings.restore_layout(again, (other,))
