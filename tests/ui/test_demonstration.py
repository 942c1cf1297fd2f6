"""The demonstration with the real engine, from the first key to the last."""

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QPushButton

from mirrorgui.mirror.snapshot import Outcome
from mirrorgui.mirror.states import OVER, JobStatus
from mirrorgui.ui.app import make_window
from mirrorgui.ui.availability import Act
from mirrorgui.ui.backend import Engine
from mirrorgui.ui.demonstrating import run_unwatched
from mirrorgui.ui.dialogs.questions import QuestionDialog
from mirrorgui.ui.models.log import LogQueue
from mirrorgui.units import MiB
from tests.ui.driving import Driver

FAST = 400 * MiB


@pytest.fixture
def driver(qapp, loop, settings, monkeypatch):
    """A window over the real engine, with a demonstration that takes a second or two."""
    monkeypatch.setattr("mirrorgui.ui.demonstrating.UNWATCHED_SPEED", FAST)
    monkeypatch.setattr("mirrorgui.ui.demonstrating.begin.__kwdefaults__", {"speed": FAST})
    log = LogQueue()
    made = None

    def quit_now():
        made.quit_asked += 1

    async def make():
        return make_window(qapp, Engine(), settings, log, quit_now)

    window = loop.run_until_complete(make())
    made = Driver(window, None, loop, log)
    window.show()
    yield made
    loop.run_until_complete(window.shutdown())
    window.close()
    window.deleteLater()


def press(driver, key, modifier=Qt.KeyboardModifier.NoModifier, where=None):
    QTest.keyClick(where or driver.window.focusWidget() or driver.window, key, modifier)
    driver.settle()


def tab_to(driver, button):
    """Press Tab until a button has the focus, as a person without a mouse does."""
    driver.window.activateWindow()
    for _ in range(40):
        if driver.window.focusWidget() is button:
            return
        press(driver, Qt.Key.Key_Tab)
    raise AssertionError(f"Tab never reaches {button.text()}")


def status(driver):
    frame = driver.controller.frame()
    return frame.snapshot.status if frame is not None else None


def test_a_whole_demonstration_by_keyboard(driver):
    window = driver.window
    tab_to(driver, window.empty.demonstrate)
    press(driver, Qt.Key.Key_Space)
    driver.until(lambda: driver.view is not None, "the mirror")
    assert driver.view.banner.isVisible()
    demonstration = driver.controller.demonstration(driver.controller.selected)

    driver.until(lambda: status(driver) is JobStatus.READY, "in sync")
    written = demonstration.writes
    driver.until(lambda: demonstration.writes > written + 5, "the guest at work")
    assert window.windowTitle() == "In sync - complete? disk.img"

    window.act.do[Act.COMPLETE].trigger()
    dialog = driver.dialog(QuestionDialog)
    assert dialog.question.title == "Switch to copy.img?"
    switch = next(each for each in dialog.findChildren(QPushButton) if "Switch" in each.text())
    press(driver, Qt.Key.Key_Tab, where=dialog.focusWidget())
    assert dialog.focusWidget() is switch
    press(driver, Qt.Key.Key_Space, where=switch)

    driver.until(lambda: status(driver) in OVER, "the end")
    assert driver.controller.frame().snapshot.outcome is Outcome.SWITCHED
    assert driver.view.header.state.text() == "Done. Clients use copy.img."
    # The guest works on, on the target.
    written = demonstration.writes
    driver.until(lambda: demonstration.writes > written, "the guest on the target")
    demonstration.stop()
    assert demonstration.verify().equal
    assert not demonstration.verify(demonstration.source).equal

    folder = demonstration.folder
    tab_to(driver, driver.view.banner.end)
    press(driver, Qt.Key.Key_Space)
    driver.until(lambda: driver.view is None, "the empty state")
    assert not folder.exists()
    driver.quiet()


def test_a_demonstration_at_work_is_ended_after_a_question(driver):
    driver.window.flows.demonstrate()
    driver.until(lambda: driver.view is not None)
    folder = driver.controller.demonstration(driver.controller.selected).folder
    driver.window.flows.demonstrate()  # shows the one that runs
    driver.settle()
    assert len(driver.controller.keys) == 1
    driver.view.banner.end.click()
    dialog = driver.dialog(QuestionDialog)
    assert dialog.question.title == "End the demonstration?"
    [_keep, end] = dialog.buttons.values()
    end.click()
    driver.until(lambda: driver.view is None)
    assert not folder.exists()
    driver.quiet()


def test_closing_the_window_ends_a_demonstration_without_a_question(driver):
    driver.window.flows.demonstrate()
    driver.until(lambda: driver.view is not None)
    folder = driver.controller.demonstration(driver.controller.selected).folder
    driver.window.close()
    assert driver.quit_asked == 1
    driver.run(driver.window.shutdown())
    assert not folder.exists()


def test_a_run_that_nobody_watches_saves_pictures_and_verifies(driver, tmp_path, capsys):
    picture = tmp_path / "pictures" / "demo.png"
    assert driver.run(run_unwatched(driver.window, picture)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("In sync") for line in lines)
    assert lines[-1].startswith("Verified: the target holds what the guest wrote (65536 blocks")
    names = sorted(each.name for each in picture.parent.iterdir())
    assert names == ["demo-done.png", "demo-in-sync.png", "demo.png"]


def test_a_target_that_differs_fails_the_run(driver, tmp_path, capsys, monkeypatch):
    from mirrorgui.demo import Demonstration, Verification

    wrong = Verification(equal=False, blocks=1, first_difference=4096)
    monkeypatch.setattr(Demonstration, "verify", lambda _self: wrong)
    assert driver.run(run_unwatched(driver.window, tmp_path / "demo.png")) == 1
    assert "The target differs at offset 4096" in capsys.readouterr().out
