"""The keyboard map."""

from PySide6.QtCore import Qt
from PySide6.QtTest import QTest

from mirrorgui.mirror.states import JobStatus
from mirrorgui.ui.availability import Act
from tests.ui.fakes import (
    stopped,
)

S = JobStatus
CTRL = Qt.KeyboardModifier.ControlModifier


def keys_of(driver):
    found = {}
    for action in driver.window.findChildren(type(driver.window.act.new)):
        for shortcut in action.shortcuts():
            found[shortcut.toString()] = action
    return found


def test_every_key_of_the_map_is_there_and_none_twice(driver):
    actions = [
        shortcut.toString()
        for action in driver.window.findChildren(type(driver.window.act.new))
        for shortcut in action.shortcuts()
    ]
    assert len(actions) == len(set(actions))
    assert set(actions) >= {
        "Ctrl+N",
        "Ctrl+O",
        "Ctrl+Return",
        "Ctrl+L",
        "Ctrl+1",
        "Ctrl+2",
        "Ctrl+3",
        "Ctrl+4",
        "Ctrl+5",
        "Ctrl+E",
        "Ctrl+F",
        "F6",
        "Shift+F6",
        "Ctrl+Shift+S",
        "F11",
        "Del",
        "Ctrl+W",
        "Ctrl+Q",
        "F1",
    }


def test_cancel_has_no_key(driver):
    assert driver.window.act.do[Act.CANCEL].shortcut().isEmpty()
    assert driver.window.act.do[Act.FINISH].shortcut().isEmpty()


def test_views_are_reached_by_key(driver):
    driver.mirror()
    keys, view = keys_of(driver), driver.view
    for key, panel in (
        ("Ctrl+2", view.charts),
        ("Ctrl+3", view.errors),
        ("Ctrl+4", view.clients),
        ("Ctrl+5", view.log),
        ("Ctrl+1", view.map),
        ("Ctrl+E", view.errors),
    ):
        keys[key].trigger()
        assert view.tabs.currentWidget() is panel, key


def test_space_in_the_list_pauses_and_resumes(driver):
    driver.mirror()
    QTest.keyClick(driver.window.jobs.list, Qt.Key.Key_Space)
    driver.settle()
    QTest.keyClick(driver.window.jobs.list, Qt.Key.Key_Space)
    driver.settle()
    assert driver.job.said == [("pause",), ("resume",)]


def test_find_goes_to_errors_or_log(driver):
    driver.mirror()
    view = driver.view
    view.show_view(view.errors)
    driver.show(stopped())
    keys_of(driver)["Ctrl+F"].trigger()
    assert view.tabs.currentWidget() is view.errors
    view.show_view(view.map)
    keys_of(driver)["Ctrl+F"].trigger()
    assert view.tabs.currentWidget() is view.log


def test_f6_walks_through_the_panes_and_back(driver):
    driver.mirror()
    window = driver.window
    window.resize(1180, 760)
    driver.settle()
    panes = window.panes()
    assert len(panes) == 5
    seen = []
    panes[0].setFocus()
    for _ in panes:
        window.act.next_pane.trigger()
        seen.append(window.focusWidget())
    assert len({id(each) for each in seen}) == 5
    window.act.previous_pane.trigger()
    assert window.focusWidget() is seen[-2]


def test_every_menu_item_has_a_mnemonic_of_its_own(driver):
    driver.mirror()
    for menu in driver.window.menuBar().actions():
        assert "&" in menu.text()
        texts = [each.text().replace("&&", "") for each in menu.menu().actions() if each.text()]
        keys = [text[text.index("&") + 1].lower() for text in texts if "&" in text]
        assert len(keys) == len(set(keys)), texts
