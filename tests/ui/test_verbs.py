"""Buttons, menu entries and questions: what they allow, and what they send."""

from dataclasses import replace

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest

from mirrorgui.errors import StateError
from mirrorgui.mirror.options import CopyMode, ErrorPolicy, SyncMode
from mirrorgui.mirror.snapshot import Outcome, Phase
from mirrorgui.mirror.states import JobStatus
from mirrorgui.ui.availability import Act, availability
from mirrorgui.ui.dialogs.live import PolicyDialog, SpeedDialog
from mirrorgui.ui.notices import NoticeAction
from mirrorgui.ui.questions import Answer
from mirrorgui.units import MiB
from tests.ui.fakes import (
    IMAGE,
    full,
    snapshot,
    stopped,
)

S = JobStatus
CTRL = Qt.KeyboardModifier.ControlModifier


# Buttons.

STATES = [
    *(snapshot(status) for status in JobStatus),
    stopped(),
    full(),
    snapshot(pause_requested=True),
    snapshot(S.READY, complete_requested=True),
    snapshot(S.READY, soft_cancel_requested=True),
    snapshot(S.READY, complete_requested=True, phase=Phase.SWITCHING),
    snapshot(S.NULL, outcome=Outcome.FAILED, error="I/O error"),
]


@pytest.mark.parametrize("now", STATES, ids=lambda now: f"{now.status.value}-{now.phase.value}")
def test_buttons_and_menu_follow_the_table_and_say_why(driver, now):
    driver.window.act.update(now)
    driver.window.toolbar.update_job(now)
    for act in Act:
        possible = availability(act, now)
        action = driver.window.act.do[act]
        assert action.isEnabled() is possible.enabled, act
        assert (possible.reason in action.toolTip()) or not possible.reason
    for act, button in driver.window.toolbar._buttons.items():
        possible = availability(act, now)
        assert button.isEnabled() is possible.enabled
        assert button.accessibleDescription() == possible.reason


def shown_buttons(driver):
    toolbar = driver.window.toolbar
    return [act.value for act, button in toolbar._buttons.items() if not button.isHidden()]


def test_the_tool_bar_has_what_the_state_needs(driver):
    working = ["pause", "speed", "cancel", "finish", "complete"]
    driver.mirror()
    assert shown_buttons(driver) == working
    driver.show(snapshot(S.PAUSED))
    assert shown_buttons(driver) == ["resume", *working[1:]]
    driver.show(snapshot(S.NULL))
    assert shown_buttons(driver) == ["remove"]


def test_what_failed_can_be_tried_again(driver):
    driver.mirror()
    driver.show(snapshot(S.NULL, outcome=Outcome.FAILED, error="x"))
    assert shown_buttons(driver) == ["retry", "remove"]


def test_why_complete_is_not_possible_stands_beside_it(driver):
    driver.mirror()
    driver.window.resize(1300, 760)
    driver.show(snapshot())
    assert driver.window.toolbar.reason.text() == "Possible when in sync"
    assert driver.window.toolbar.reason.isVisible()
    driver.show(snapshot(S.READY))
    assert driver.window.toolbar.reason.text() == ""
    assert driver.window.toolbar.complete.property("look") == "primary"
    driver.show(snapshot(S.STANDBY))
    assert driver.window.toolbar.reason.text() == "Resume first"
    assert driver.window.toolbar.complete.property("look") == ""


def test_a_narrow_tool_bar_keeps_every_button(driver):
    driver.mirror()
    driver.window.resize(780, 560)
    driver.show(snapshot())
    toolbar = driver.window.toolbar
    assert toolbar.pause.toolButtonStyle() is Qt.ToolButtonStyle.ToolButtonIconOnly
    assert toolbar.complete.toolButtonStyle() is Qt.ToolButtonStyle.ToolButtonTextBesideIcon
    assert toolbar.minimumSizeHint().width() <= 780
    driver.window.resize(1400, 760)
    driver.settle()
    assert toolbar.pause.toolButtonStyle() is Qt.ToolButtonStyle.ToolButtonTextBesideIcon


def test_cancel_is_called_discard_once_in_sync(driver):
    driver.mirror()
    assert driver.text(driver.window.act.do[Act.CANCEL]) == "Cancel..."
    driver.show(snapshot(S.READY))
    assert driver.text(driver.window.act.do[Act.CANCEL]) == "Discard..."


def test_pause_and_resume(driver):
    driver.mirror()
    driver.trigger(Act.PAUSE)
    assert driver.job.said == [("pause",)]
    assert driver.view.header.state.text() == "Paused by you"
    driver.trigger(Act.RESUME)
    assert driver.job.said[-1] == ("resume",)


def test_speed_is_changed_while_it_runs(driver):
    driver.mirror()
    toolbar = driver.window.toolbar
    assert toolbar.speed.text() == "Speed: unlimited"
    toolbar.speed_menu.quick[50 * MiB].trigger()
    driver.settle()
    assert driver.job.said == [("set-speed", 50 * MiB)]
    assert toolbar.speed.text() == "Speed: 50 MiB/s"
    driver.trigger(Act.SPEED)
    dialog = driver.dialog(SpeedDialog)
    assert dialog.field.currentText() == "50 MiB/s"
    dialog.field.setEditText("fast")
    assert not dialog.apply.isEnabled()
    assert "not a speed" in dialog.problem.text()
    dialog.accept()
    assert dialog.isVisible()
    dialog.field.setEditText("25")
    dialog.apply.click()
    driver.settle()
    assert driver.job.said[-1] == ("set-speed", 25 * MiB)
    assert toolbar.speed_menu.custom.isChecked()


def test_policies_are_changed_while_it_runs(driver):
    driver.mirror(on_target_error=ErrorPolicy.STOP)
    driver.trigger(Act.POLICY)
    dialog = driver.dialog(PolicyDialog)
    assert dialog.reading.policy() is ErrorPolicy.REPORT
    assert dialog.writing.policy() is ErrorPolicy.STOP
    dialog.writing.set_policy(ErrorPolicy.IGNORE)
    dialog.apply.click()
    driver.settle()
    assert driver.job.said == [("set-policy", ErrorPolicy.REPORT, ErrorPolicy.IGNORE)]
    driver.trigger(Act.POLICY)
    assert driver.dialog(PolicyDialog).writing.policy() is ErrorPolicy.IGNORE


def test_write_blocking_is_switched_on(driver):
    driver.mirror()
    driver.trigger(Act.WRITE_BLOCKING)
    assert driver.job.said == [("change", CopyMode.WRITE_BLOCKING)]
    assert driver.view.header.numbers.text("mode") == "write-blocking"
    assert not driver.window.act.do[Act.WRITE_BLOCKING].isEnabled()


def test_a_refused_verb_becomes_a_message(driver, caplog):
    driver.mirror()
    driver.job.fails = StateError("mirror0", "pause", "waiting", ["running"])
    driver.trigger(Act.PAUSE)
    assert driver.window.message.text() == (
        "Job 'mirror0' in state 'waiting' cannot accept command verb 'pause'."
    )
    driver.window.message.button(NoticeAction.DISMISS).click()
    assert not driver.window.message.isVisible()
    driver.job.fails = None


# Questions.


def test_complete_asks_and_switches(driver):
    driver.mirror()
    driver.show(snapshot(S.READY))
    driver.trigger(Act.COMPLETE)
    assert driver.question().question.title == "Switch to target.img?"
    driver.answer(Answer.SWITCH)
    assert driver.job.said == [("complete",)]
    driver.until(lambda: driver.view.header.state.text() == "Done. Clients use target.img.")


def test_complete_can_be_thought_over(driver):
    driver.mirror()
    driver.show(snapshot(S.READY))
    driver.trigger(Act.COMPLETE)
    driver.answer(Answer.KEEP)
    driver.trigger(Act.COMPLETE)
    driver.escape()
    driver.trigger(Act.COMPLETE)
    QTest.keyClick(driver.question(), Qt.Key.Key_Return)
    driver.settle()
    assert driver.no_dialog()
    assert driver.job.said == []


def test_a_question_stands_once_and_the_job_goes_on_behind_it(driver):
    driver.mirror()
    driver.show(snapshot(S.READY))
    driver.trigger(Act.COMPLETE)
    driver.trigger(Act.COMPLETE)
    driver.trigger(Act.CANCEL)
    dialog = driver.question()
    driver.show(snapshot(S.READY, dirty_bytes=3 * MiB))
    assert driver.view.header.state.text() == "In sync, 3.0 MiB behind"
    assert dialog.isVisible()


def test_what_a_full_copy_does_not_need_is_said(driver):
    driver.backend.infos["/vm/source.img"] = replace(IMAGE, backing_filename="base.img")
    driver.mirror(sync=SyncMode.FULL)
    driver.show(snapshot(S.READY))
    driver.trigger(Act.COMPLETE)
    assert "target.img will not need base.img." in driver.question().question.text


def test_connected_clients_are_counted(driver):
    driver.mirror()
    driver.show(snapshot(S.READY))
    driver.backend.sessions[-1].export_uri = "nbd://localhost"
    driver.backend.sessions[-1].connected = [1, 2]
    driver.trigger(Act.COMPLETE)
    text = driver.question().question.text
    assert text.startswith("The 2 connected clients continue on the target.")


def test_finish_without_switching_needs_no_question(driver):
    driver.mirror()
    driver.show(snapshot(S.READY))
    driver.trigger(Act.FINISH)
    assert driver.job.said == [("cancel", False)]
    assert "is a copy as of" in driver.view.header.state.text()


def test_cancel_before_in_sync(driver):
    driver.mirror()
    driver.trigger(Act.CANCEL)
    assert driver.question().question.title == "Cancel this mirror?"
    driver.answer(Answer.CANCEL)
    assert driver.job.said == [("cancel", True)]
    driver.until(lambda: driver.backend.sessions[-1].closed)
    assert not driver.backend.sessions[-1].deleted


def test_an_incomplete_file_of_ours_can_be_deleted(driver):
    driver.mirror()
    driver.trigger(Act.CANCEL)
    driver.answer(Answer.CANCEL, tick=True)
    driver.until(lambda: driver.backend.sessions[-1].deleted)


def test_a_file_that_was_there_before_cannot_be_deleted(driver):
    driver.backend.created = False
    driver.mirror()
    driver.trigger(Act.CANCEL)
    assert driver.question().tick.isHidden()


def test_a_copy_that_came_in_sync_behind_the_question_is_not_deleted(driver):
    driver.mirror()
    driver.trigger(Act.CANCEL)
    driver.question()
    driver.show(snapshot(S.READY))
    driver.answer(Answer.CANCEL, tick=True)
    driver.until(lambda: driver.backend.sessions[-1].closed)
    driver.settle()
    assert not driver.backend.sessions[-1].deleted


def test_keeping_is_the_default_of_cancel(driver):
    driver.mirror()
    driver.trigger(Act.CANCEL)
    dialog = driver.question()
    assert dialog.buttons[Answer.KEEP].isDefault()
    assert dialog.buttons[Answer.CANCEL].property("look") == "danger"
    QTest.keyClick(dialog, Qt.Key.Key_Return)
    driver.settle()
    assert driver.job.said == []


@pytest.mark.parametrize(
    ("answer", "said"), [(Answer.FINISH, [("cancel", False)]), (Answer.STOP, [("cancel", True)])]
)
def test_discard_in_sync_offers_the_usable_end(driver, answer, said):
    driver.mirror()
    driver.show(snapshot(S.READY))
    driver.trigger(Act.CANCEL)
    assert driver.question().question.title == "Stop without completing?"
    driver.answer(answer)
    assert driver.job.said == said
