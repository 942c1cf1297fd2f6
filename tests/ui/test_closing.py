"""Closing the window, with and without mirrors at work."""

from PySide6.QtCore import Qt

from mirrorgui.mirror.snapshot import Outcome
from mirrorgui.mirror.states import OVER, JobStatus
from mirrorgui.ui.availability import Act
from mirrorgui.ui.questions import Answer
from tests.ui.fakes import (
    snapshot,
)

S = JobStatus
CTRL = Qt.KeyboardModifier.ControlModifier


def test_an_idle_window_closes_at_once(driver):
    driver.window.close()
    assert driver.quit_asked == 1


def test_closing_on_a_mirror_at_work_asks(driver):
    driver.mirror()
    driver.window.close()
    assert driver.window.isVisible()
    assert driver.question().question.title == "A mirror is running."
    driver.answer(Answer.KEEP)
    assert driver.quit_asked == 0
    driver.window.act.quit.trigger()
    driver.answer(Answer.STOP)
    assert driver.quit_asked == 1


def test_escape_stays(driver):
    driver.mirror()
    driver.window.act.close.trigger()
    driver.escape()
    assert driver.quit_asked == 0
    assert driver.job.now.status is S.RUNNING


def test_closing_can_delete_the_incomplete_file(driver):
    driver.mirror()
    driver.window.close()
    driver.answer(Answer.STOP, tick=True)
    driver.run(driver.window.shutdown())
    assert driver.backend.sessions[-1].closed
    assert driver.backend.sessions[-1].deleted


def test_closing_in_sync_offers_to_finish_first(driver):
    driver.mirror()
    driver.show(snapshot(S.READY))
    driver.window.close()
    driver.answer(Answer.FINISH)
    driver.until(lambda: driver.quit_asked)
    assert driver.job.said == [("cancel", False)]
    assert driver.job.now.outcome is Outcome.FINISHED


def test_finishing_first_resumes_what_is_paused(driver):
    driver.mirror()
    driver.show(snapshot(S.STANDBY))
    driver.window.close()
    driver.answer(Answer.FINISH)
    driver.until(lambda: driver.quit_asked)
    assert driver.job.said == [("resume",), ("cancel", False)]


def test_a_switch_is_not_interrupted_by_closing(driver):
    driver.mirror()
    driver.show(snapshot(S.PENDING, complete_requested=True))
    driver.window.close()
    driver.settle()
    assert driver.quit_asked == 0
    assert driver.window.message.text().startswith("Finishing: the last writes to target.img")
    driver.show(snapshot(S.NULL))
    driver.until(lambda: driver.quit_asked)


def test_closing_after_the_end_asks_nothing(driver):
    driver.mirror()
    driver.show(snapshot(S.NULL))
    driver.window.close()
    assert driver.quit_asked == 1


def test_shutting_down_cancels_what_works_and_remembers_the_layout(driver, store):
    driver.mirror()
    driver.run(driver.window.shutdown())
    assert driver.backend.sessions[-1].closed
    assert driver.job.now.status in OVER
    assert store.value("window/geometry")


def test_shutting_down_closes_open_dialogs(driver):
    driver.mirror()
    driver.window.act.new.trigger()
    driver.trigger(Act.CANCEL)
    driver.question()
    driver.run(driver.window.shutdown())
    assert driver.no_dialog()
    assert driver.job.said == [("cancel", True)]


def test_a_start_under_way_is_closed_in_order(driver):
    import asyncio

    async def begin():
        driver.backend.gate = asyncio.Event()

    driver.run(begin())
    driver.window.flows.new_mirror("/vm/source.img", "/vm2/target.img")
    dialog = driver.window.flows.new_dialog
    driver.until(lambda: dialog.start.isEnabled())
    dialog.start.click()
    driver.settle()
    driver.backend.gate.set()
    driver.run(driver.window.shutdown())
    assert all(each.closed for each in driver.backend.sessions)
