"""The window as a whole, over an engine that says what the test wants."""

from dataclasses import replace

from PySide6.QtCore import QMimeData, QPointF, Qt, QUrl
from PySide6.QtGui import QColor, QDragEnterEvent, QDropEvent, QGuiApplication, QKeySequence
from PySide6.QtWidgets import QApplication, QFileDialog, QLabel, QWidget

from mirrorgui.mirror.snapshot import Outcome
from mirrorgui.mirror.states import JobStatus
from mirrorgui.ui.availability import Act
from mirrorgui.ui.dialogs.about import AboutDialog, KeysDialog, keyboard_map, versions
from mirrorgui.ui.dialogs.live import PolicyDialog
from mirrorgui.ui.dialogs.new_mirror import NewMirrorDialog
from mirrorgui.ui.heatmap import colors
from mirrorgui.ui.heatmap.colors import Scheme
from mirrorgui.ui.notices import NoticeAction, internal_error
from mirrorgui.ui.theme import ThemeChoice, theme_of
from mirrorgui.units import GiB, MiB
from tests.ui.fakes import (
    IMAGE,
    error,
    flying,
    full,
    guest,
    running_words,
    snapshot,
    stopped,
)

S = JobStatus
CTRL = Qt.KeyboardModifier.ControlModifier


# Beginning.


def test_without_a_mirror_the_window_says_how_to_begin(driver):
    window = driver.window
    assert window.stack.currentWidget() is window.empty
    assert window.windowTitle() == "MirrorGUI"
    assert not window.toolbar.isVisible()
    assert not window.jobs.isVisible()
    assert not window.status.isVisible()
    assert driver.text(window.empty.choose) == "Choose source..."
    assert driver.text(window.empty.demonstrate) == "Try the demonstration"


def test_a_dropped_source_opens_the_dialog_filled_in_and_starts_nothing(driver):
    driver.window.empty.source_given.emit("/vm/source.img")
    dialog = driver.dialog(NewMirrorDialog)
    assert dialog.source.path.text() == "/vm/source.img"
    assert not driver.backend.sessions


def drop(driver, url):
    """Drop a URL on the middle of the window; say whether it was taken."""
    data = QMimeData()
    data.setUrls([QUrl(url)])
    window = driver.window
    place = QPointF(window.rect().center())
    button, none = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    enter = QDragEnterEvent(place.toPoint(), Qt.DropAction.CopyAction, data, button, none)
    QApplication.sendEvent(window, enter)
    if enter.isAccepted():
        event = QDropEvent(place, Qt.DropAction.CopyAction, data, button, none)
        QApplication.sendEvent(window, event)
    return enter.isAccepted()


def test_an_image_can_be_dropped_while_a_mirror_is_shown(driver):
    driver.mirror()
    assert drop(driver, "file:///vm/dropped.img")
    assert driver.dialog(NewMirrorDialog).source.path.text() == "/vm/dropped.img"
    assert len(driver.backend.sessions) == 1


def test_what_is_no_image_is_not_taken(driver):
    assert not drop(driver, "https://example.org/")
    assert driver.no_dialog()


def test_a_source_is_among_the_recent_ones_as_soon_as_it_was_used(driver):
    driver.window.flows.new_mirror("/vm/used.img", "/vm2/new.img")
    dialog = driver.dialog(NewMirrorDialog)
    driver.until(lambda: dialog.is_up_to_date)
    dialog.start.click()
    driver.until(lambda: driver.window.flows.new_dialog is None)
    assert driver.window.menus.recent.actions()[0].text() == "used.img"
    driver.job.cancel(force=True)
    driver.quiet()


def test_choosing_a_source_opens_the_dialog_with_it(driver):
    driver.window.empty.choose.click()
    chooser = driver.dialog(QFileDialog)
    chooser.fileSelected.emit("/vm/found.img")
    chooser.reject()
    assert driver.dialog(NewMirrorDialog).source.path.text() == "/vm/found.img"


def test_new_mirror_is_one_dialog_however_often_it_is_asked_for(driver):
    driver.window.act.new.trigger()
    driver.window.act.new.trigger()
    driver.window.flows.new_mirror("/vm/other.img")
    assert driver.dialog(NewMirrorDialog).source.path.text() == "/vm/other.img"


def test_recent_sources_are_in_the_menu_and_can_be_forgotten(driver):
    window = driver.window
    window.settings.add_recent("/vm/a&b.img")
    window._show_recent()
    [entry, _line, clear] = window.menus.recent.actions()
    assert entry.text() == "a&&b.img"
    entry.trigger()
    assert driver.dialog(NewMirrorDialog).source.path.text() == "/vm/a&b.img"
    clear.trigger()
    assert window.settings.recent == []
    assert not window.menus.recent.isEnabled()


# A mirror is shown.


def test_a_started_mirror_is_shown_everywhere(driver):
    driver.mirror()
    window = driver.window
    driver.job.show_map(running_words(driver.job.now.chunks))
    driver.show(snapshot(operations=flying(driver.job.snapshot().time_ns)))
    assert window.stack.currentWidget() is driver.view
    assert window.windowTitle() == "source.img → target.img - 62 % - MirrorGUI"
    assert driver.view.header.state.text() == "Copying - 62.0 %"
    assert window.jobs.texts() == ["source.img to target.img: 62 %"]
    assert window.status.job.text() == "mirror0: running"
    assert window.toolbar.isVisible()
    assert driver.view.message.notice is None
    assert driver.view.banner.isHidden()


def test_both_images_are_described(driver):
    driver.backend.infos["/vm/source.img"] = replace(IMAGE, backing_filename="base.img")
    driver.mirror()
    ends = driver.controller.frame().ends
    assert ends.source == "raw, 1.0 GiB, base.img below"
    assert ends.target == "raw, 1.0 GiB, new file"


def test_the_window_asks_ten_times_a_second_only_while_it_can_be_seen(driver):
    driver.mirror()
    timers = driver.controller._frame_timer, driver.controller._slow_timer
    assert all(each.isActive() for each in timers)
    assert timers[0].interval() == 100
    driver.window.showMinimized()
    driver.settle()
    assert [each.isActive() for each in timers] == [False, True]
    driver.window.showNormal()
    driver.settle()
    assert timers[0].isActive()
    driver.window.hide()
    driver.settle()
    assert not timers[0].isActive()
    driver.window.show()


def test_an_event_is_shown_at_once(driver):
    driver.mirror()
    driver.controller.set_watched(False)
    driver.job.show(snapshot(S.READY))
    driver.until(lambda: driver.view.header.state.text().startswith("In sync"))


def test_the_map_is_copied_only_when_it_changed(driver):
    driver.mirror()
    calls = []
    real = driver.job.copy_map_into
    driver.job.copy_map_into = lambda words: (calls.append(1), real(words))
    driver.controller.look_now()
    driver.controller.look_now()
    assert not calls
    driver.show(snapshot())
    assert len(calls) >= 1


def test_nobody_looks_at_a_mirror_that_has_ended(driver):
    driver.mirror()
    driver.show(snapshot(S.NULL))
    driver.until(lambda: driver.backend.sessions[-1].closed)
    driver.settle()
    assert not driver.controller._frame_timer.isActive()
    assert not driver.controller._slow_timer.isActive()


# Messages.


def test_a_stop_shows_a_message_with_a_button_that_resumes(driver):
    driver.mirror()
    driver.show(stopped())
    bar = driver.view.message
    assert bar.isVisible()
    bar.button(NoticeAction.RESUME).click()
    driver.settle()
    assert driver.job.said == [("resume",)]
    assert not bar.isVisible()


def test_the_message_leads_to_policy_errors_and_cancel(driver):
    driver.mirror()
    driver.show(stopped())
    bar = driver.view.message
    bar.button(NoticeAction.SHOW_ERRORS).click()
    assert driver.view.tabs.currentWidget() is driver.view.errors
    bar.button(NoticeAction.CHANGE_POLICY).click()
    driver.dialog(PolicyDialog).reject()
    driver.settle()
    bar.button(NoticeAction.CANCEL).click()
    assert driver.question().question.title == "Cancel this mirror?"


def test_resume_waits_for_room_on_a_full_target(driver, monkeypatch):
    room = 0
    monkeypatch.setattr("mirrorgui.ui.controller.free_space", lambda _target: room)
    driver.mirror()
    driver.show(full())
    button = driver.view.message.button(NoticeAction.RESUME)
    assert not button.isEnabled()
    assert button.toolTip() == "Free space: 0 B"
    assert not driver.window.toolbar.resume.isEnabled()
    room = GiB
    driver.controller.look_now()
    driver.settle()
    assert button.isEnabled()
    assert "1.0 GiB free" in driver.view.message.text()


def test_failed_places_are_counted_on_the_tab(driver):
    driver.mirror()
    driver.show(stopped(errors=(error(0), error(GiB))))
    tabs = driver.view.tabs
    assert tabs.tabText(tabs.indexOf(driver.view.errors)) == "Errors (2)"
    driver.show(snapshot(errors=(error(0, solved=True), error(GiB, solved=True))))
    assert tabs.tabText(tabs.indexOf(driver.view.errors)) == "Errors"


def test_an_error_leads_to_its_place_in_the_map(driver):
    driver.mirror()
    driver.show(stopped(error(512 * MiB)))
    view = driver.view
    view.show_view(view.errors)
    view.errors.table.selectRow(0)
    shown = []
    view.map.show_offset = shown.append
    view.errors.show_in_map.click()
    assert view.tabs.currentWidget() is view.map
    assert shown == [512 * MiB]


def test_a_failed_mirror_can_be_tried_again_with_a_new_choice_of_target(driver):
    driver.mirror(speed=7 * MiB)
    driver.show(snapshot(S.NULL, outcome=Outcome.FAILED, error="I/O error", errors=(error(),)))
    driver.view.message.button(NoticeAction.RETRY).click()
    dialog = driver.dialog(NewMirrorDialog)
    assert dialog.values().source == "/vm/source.img"
    assert dialog.values().target == ""
    assert dialog.values().speed == 7 * MiB


def test_an_internal_error_is_told_and_its_details_can_be_copied(driver):
    driver.window.show_notice(internal_error("KeyError", "Traceback..."))
    assert driver.window.message.text().startswith("Internal error: KeyError.")
    driver.window.message.button(NoticeAction.COPY_DETAILS).click()
    assert QGuiApplication.clipboard().text() == "Traceback..."


def test_a_target_that_was_taken_away_is_told_within_two_seconds(driver):
    driver.mirror()
    driver.backend.sessions[-1].target_loss = "/vm2/target.img was removed by another program"
    driver.controller._look_slowly()
    driver.settle()
    driver.controller.look_now()
    driver.settle()
    assert driver.view.message.text().startswith("The target is lost: /vm2/target.img was removed")
    driver.view.message.button(NoticeAction.CANCEL).click()
    assert driver.question().question.title == "Cancel this mirror?"


# Several mirrors.


def test_several_mirrors_are_listed_and_chosen(driver):
    first = driver.mirror()
    second = driver.mirror("/vm/other.img", "/vm2/other-copy.img", job_id="mirror1")
    window = driver.window
    assert driver.controller.selected == second
    assert window.jobs.texts()[1].startswith("other.img to other-copy.img")
    window.jobs.list.setCurrentRow(0)
    driver.settle()
    assert driver.controller.selected == first
    assert window.windowTitle().startswith("source.img")
    driver.trigger(Act.PAUSE)
    assert driver.backend.sessions[0].job.said == [("pause",)]
    assert driver.backend.sessions[1].job.said == []
    assert driver.controller.free_job_id() == "mirror2"


def test_an_ended_mirror_is_removed_from_the_list(driver):
    driver.mirror()
    driver.mirror("/vm/other.img", "/vm2/other-copy.img", job_id="mirror1")
    driver.show(snapshot(S.NULL))
    driver.trigger(Act.REMOVE)
    driver.until(lambda: len(driver.window.jobs.texts()) == 1)
    assert driver.controller.selected == 0
    driver.backend.sessions[0].job.show(snapshot(S.NULL))
    driver.settle()
    driver.trigger(Act.REMOVE)
    driver.until(lambda: driver.window.stack.currentWidget() is driver.window.empty)
    assert driver.window.windowTitle() == "MirrorGUI"


def test_a_mirror_at_work_is_not_removed(driver):
    driver.mirror()
    assert not driver.window.act.do[Act.REMOVE].isEnabled()
    driver.window.flows.remove()
    driver.settle()
    assert driver.window.views


# The rest.


def test_the_theme_is_chosen_and_remembered(driver):
    menus = driver.window.menus
    menus.themes[ThemeChoice.DARK].trigger()
    try:
        assert theme_of().dark
        assert driver.window.settings.theme is ThemeChoice.DARK
    finally:
        menus.themes[ThemeChoice.LIGHT].trigger()
    assert not theme_of().dark


def test_about_and_keys(driver):
    driver.window.act.about.trigger()
    about = driver.dialog(AboutDialog)
    about.copy.click()
    assert f"MirrorGUI {versions()[0][1]}" in QGuiApplication.clipboard().text()
    assert all(licence for _part, _version, licence in versions())
    about.close_button.click()
    driver.settle()
    driver.window.act.keys.trigger()
    driver.dialog(KeysDialog)
    assert dict(keyboard_map())["Ctrl+N"] == "New mirror"


def test_a_picture_of_the_map_is_saved(driver, tmp_path):
    driver.mirror()
    driver.window.act.picture.trigger()
    chooser = driver.dialog(QFileDialog)
    chooser.fileSelected.emit(str(tmp_path / "map"))
    chooser.reject()
    assert (tmp_path / "map.png").stat().st_size > 0


def test_the_colours_of_maps_are_chosen_and_remembered(driver):
    driver.mirror()
    schemes = driver.window.menus.schemes
    assert schemes[Scheme.THEME].isChecked()
    schemes[Scheme.MONOCHROME].trigger()
    assert driver.window.settings.scheme is Scheme.MONOCHROME
    try:
        theme_of().choose(ThemeChoice.DARK)
        assert driver.view.map.view.palette_ is colors.MONOCHROME
        assert QColor(driver.view.map.bar.ink).lightness() > 128, "seen beside the bar"
        schemes[Scheme.THEME].trigger()
        assert driver.view.map.view.palette_ is colors.DARK
    finally:
        theme_of().choose(ThemeChoice.LIGHT)
    schemes[Scheme.MONOCHROME].trigger()
    driver.mirror("/vm/other.img", "/vm2/other.img", job_id="mirror1")
    assert driver.view.map.view.palette_ is colors.MONOCHROME


def test_full_screen_comes_and_goes(driver):
    driver.window.act.full_screen.trigger()
    assert driver.window.isFullScreen()
    driver.window.act.full_screen.trigger()
    assert not driver.window.isFullScreen()


def test_a_small_window_leaves_the_list_out_unless_there_are_several(driver):
    driver.mirror()
    driver.window.resize(780, 600)
    driver.settle()
    assert driver.window.jobs.isHidden()
    driver.mirror("/vm/other.img", "/vm2/other.img", job_id="mirror1")
    assert not driver.window.jobs.isHidden()


def test_the_smallest_window_cuts_neither_the_legend_nor_the_number_of_errors(driver):
    driver.mirror()
    driver.window.resize(driver.window.minimumSize())
    driver.show(stopped(error_count=17))
    assert driver.window.view.message.isVisible()
    panel = driver.view.map
    for label in panel.legend.findChildren(QLabel):
        if label.isVisible() and label.text():
            assert label.height() >= label.fontMetrics().height(), label.text()
    assert panel._scale.y() >= panel.view.geometry().bottom()
    count = driver.window.status.errors
    assert count.text() == "17 errors"
    right = count.mapTo(driver.window, count.rect().bottomRight()).x()
    assert right < driver.window.width()


def test_events_reach_the_log(driver):
    driver.mirror()
    driver.show(snapshot(S.READY))
    driver.window.log_feed.take()
    texts = [each.text for each in driver.window.log_feed.model.lines]
    assert "JOB_STATUS_CHANGE id=mirror0 status=ready" in texts


def test_the_guests_writes_are_told(driver):
    driver.mirror()
    driver.show(snapshot(dirtied_bytes=5 * MiB, guest=guest(10, 5 * MiB)))
    assert driver.view.header.numbers.text("again") == "5.0 MiB (again)"


def test_shortcuts_use_the_platforms_keys(driver):
    assert driver.window.act.new.shortcut() == QKeySequence(QKeySequence.StandardKey.New)


def test_no_widget_of_the_window_is_without_a_parent(driver):
    driver.mirror()
    driver.window.act.new.trigger()
    driver.settle()
    strays = [
        each
        for each in QApplication.topLevelWidgets()
        if isinstance(each, QWidget) and each.parent() is None and each is not driver.window
    ]
    assert not [each for each in strays if each.isVisible()], strays
