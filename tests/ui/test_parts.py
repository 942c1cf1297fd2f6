"""The parts of the window, each by itself."""

from dataclasses import replace

import pytest
from PySide6.QtCore import QMimeData, QPoint, Qt, QUrl
from PySide6.QtGui import QAction, QDropEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QLabel, QPushButton

from mirrorgui.mirror.bitmap import MapWords
from mirrorgui.mirror.options import CopyMode
from mirrorgui.mirror.rates import EtaState, Rates
from mirrorgui.mirror.snapshot import Outcome, Phase
from mirrorgui.mirror.states import JobStatus
from mirrorgui.ui.assets import application_icon, icon, icons_of, resource
from mirrorgui.ui.elide import ElidedLabel
from mirrorgui.ui.empty_state import EmptyState, dropped_path
from mirrorgui.ui.fields import PolicyField, SizeField, SpeedField
from mirrorgui.ui.frame import Ends, Frame
from mirrorgui.ui.header import Header
from mirrorgui.ui.i18n import install, ntr, tr
from mirrorgui.ui.message_bar import ICONS, MessageBar, action_text
from mirrorgui.ui.names import Names
from mirrorgui.ui.notices import Notice, NoticeAction, notice_for
from mirrorgui.ui.quantities import SOURCE_POLICIES
from mirrorgui.ui.status import StatusLine
from mirrorgui.ui.theme import ThemeChoice, theme_of
from mirrorgui.ui.toolbar import SpeedMenu
from mirrorgui.ui.wording import Tone, shown_state
from mirrorgui.ui.wrapping import TickBox
from mirrorgui.units import KiB, MiB
from tests.ui.fakes import NOON_NS, SECOND, error, full, snapshot, stopped

NAMES = Names.of("/vm/source.img", "/vm2/target.img")
RATES = Rates(
    current=51.8 * MiB,
    average=47.2 * MiB,
    peak=96.0 * MiB,
    guest_written=3.1 * MiB,
    state=EtaState.ETA,
    eta_s=480.0,
    active_ns=95 * SECOND,
)


def frame(now, rates=RATES, **changes):
    ends = Ends("raw, 1.0 GiB", "raw, 1.0 GiB, new file")
    return Frame(0, NAMES, ends, now, MapWords.empty(1), rates, **changes)


# Translations.


def test_texts_pass_through_one_door():
    try:
        install(lambda text: f"[{text}]")
        assert tr("Copying {percent}", percent="62 %") == "[Copying 62 %]"
        assert ntr("{n} chunk", "{n} chunks", 1234567) == "[1 234 567 chunks]"
    finally:
        install(None)
    assert tr("plain {braces}") == "plain {braces}"
    assert ntr("{n} chunk", "{n} chunks", 1) == "1 chunk"


# Header.


@pytest.fixture
def header(qapp):
    made = Header()
    made.resize(1000, 150)
    made.show()
    return made


def test_the_header_has_all_numbers(header):
    header.update_frame(frame(snapshot(dirtied_bytes=1258291, speed=60 * MiB)))
    assert header.state.text() == "Copying - 62.0 %"
    assert header.remaining.text().startswith("about 8 min left, at ")
    assert header.numbers.text("copied") == "635.0 MiB of 1.0 GiB"
    assert header.numbers.text("left") == "389.0 MiB"
    assert header.numbers.text("again") == "1.2 MiB (again)"
    assert header.numbers.text("rate") == "51.8 MiB/s"
    assert header.numbers.text("clients") == "3.1 MiB/s"
    assert header.numbers.text("limit") == "60.0 MiB/s"
    assert header.numbers.text("mode") == "background"
    assert header.bar.value() == 6201


def test_a_paused_mirror_has_no_rate_of_now(header):
    header.update_frame(frame(snapshot(JobStatus.PAUSED), replace(RATES, state=EtaState.PAUSED)))
    assert header.numbers.text("rate") == "avg 47.2 MiB/s"
    assert header.remaining.text() == "389.0 MiB left"


def test_write_blocking_says_what_it_guarantees(header):
    now = snapshot(JobStatus.READY, copy_mode=CopyMode.WRITE_BLOCKING, actively_synced=True)
    header.update_frame(frame(now, replace(RATES, state=EtaState.IN_SYNC)))
    assert header.numbers.text("mode") == "write-blocking"
    assert header.remaining.text() == "every answered write is on both images"


def test_an_ended_mirror_says_how_long_it_took(header):
    header.update_frame(frame(snapshot(JobStatus.NULL), replace(RATES, state=EtaState.OVER)))
    assert header.remaining.text() == "took 1 min 35 s"
    assert header.bar.value() == header.bar.maximum()


def test_the_bar_is_busy_where_there_is_no_share(header):
    header.update_frame(frame(snapshot(JobStatus.CREATED)))
    assert header.bar.maximum() == 0
    header.update_frame(frame(snapshot()))
    assert header.bar.maximum() > 0


def test_long_names_are_cut_and_told_on_hover(qapp):
    label = ElidedLabel()
    label.resize(60, 20)
    label.set_full_text("a-very-long-name-of-an-image.qcow2")
    label.show()
    assert "…" in label.text()
    assert label.toolTip() == "a-very-long-name-of-an-image.qcow2"
    assert label.sizeHint().width() > 60


# Message bar.


@pytest.fixture
def bar(qapp):
    made = MessageBar()
    made.resize(900, 80)
    made.heard = []
    made.triggered.connect(made.heard.append)
    return made


def test_the_bar_shows_a_stop_with_its_buttons(bar):
    bar.show_notice(notice_for(stopped(), NAMES))
    assert bar.isVisible()
    assert bar.text().startswith("Writing to target.img stopped at 12.0 GiB: Input/output error.")
    assert bar.accessibleName() == bar.text()
    for action in (NoticeAction.RESUME, NoticeAction.CHANGE_POLICY, NoticeAction.CANCEL):
        bar.button(action).click()
    assert bar.heard == [NoticeAction.RESUME, NoticeAction.CHANGE_POLICY, NoticeAction.CANCEL]
    bar.show_notice(None)
    assert not bar.isVisible()


def test_numbers_change_without_new_buttons(bar):
    bar.show_notice(notice_for(full(), NAMES, free_space=0))
    button = bar.button(NoticeAction.RESUME)
    bar.show_notice(notice_for(full(), NAMES, free_space=5 * MiB))
    assert bar.button(NoticeAction.RESUME) is button
    assert "(5.0 MiB free" in bar.text()


def test_a_button_that_cannot_help_says_why(bar):
    bar.show_notice(notice_for(full(), NAMES, free_space=0))
    bar.set_possible(NoticeAction.RESUME, possible=False, reason="Free space: 0 B")
    button = bar.button(NoticeAction.RESUME)
    assert not button.isEnabled()
    assert button.toolTip() == button.accessibleDescription() == "Free space: 0 B"


def test_a_dismissed_notice_stays_away_until_another_one_comes(bar):
    done = notice_for(snapshot(JobStatus.NULL), NAMES)
    bar.show_notice(done)
    bar.button(NoticeAction.DISMISS).click()
    assert not bar.isVisible()
    bar.show_notice(done)
    assert not bar.isVisible()
    bar.show_notice(Notice("other", Tone.ERROR, "Other.", ""))
    assert bar.isVisible()


@pytest.mark.parametrize("action", list(NoticeAction))
def test_every_button_of_the_bar_is_a_verb(action):
    assert action_text(action).replace("&", "")[0].isupper()


@pytest.mark.parametrize("tone", list(Tone))
def test_every_tone_has_an_icon(tone):
    assert resource(f"icons/actions/{ICONS[tone]}.svg")


# Icons.


def test_every_state_has_an_icon_that_ships():
    states = [snapshot(status) for status in JobStatus]
    states += [stopped(), full(), snapshot(phase=Phase.SCANNING), snapshot(phase=Phase.FLUSHING)]
    states += [snapshot(JobStatus.NULL, outcome=outcome) for outcome in Outcome]
    for now in states:
        shown = shown_state(now, NAMES)
        assert resource(f"icons/actions/{shown.icon}.svg"), shown
    slow = shown_state(snapshot(), NAMES, converging=False)
    assert resource(f"icons/actions/{slow.icon}.svg")


def test_icons_follow_the_theme(qapp):
    label = QLabel()
    icons_of().give(label, "pause", "text", 24)
    light = label.pixmap().toImage()
    theme_of().choose(ThemeChoice.DARK)
    try:
        assert label.pixmap().toImage() != light
    finally:
        theme_of().choose(ThemeChoice.LIGHT)
    assert label.pixmap().toImage() == light
    assert label.pixmap().devicePixelRatio() == label.devicePixelRatioF()


def test_icons_of_what_is_gone_are_forgotten(qapp):
    for _ in range(3):
        button = QPushButton()
        icons_of().give(button, "pause")
        button.deleteLater()
    action = QAction()
    icons_of().give(action, "pause")
    theme_of().choose(ThemeChoice.DARK)
    theme_of().choose(ThemeChoice.LIGHT)
    assert not action.icon().isNull()


def test_a_missing_icon_is_empty_not_an_error(qapp):
    assert icon("no-such-icon", "#000000").isNull()
    assert not application_icon().isNull()


# Empty state.


@pytest.fixture
def empty(qapp):
    made = EmptyState()
    made.resize(800, 500)
    made.show()
    made.given = []
    made.source_given.connect(made.given.append)
    return made


def drop(widget, *urls):
    data = QMimeData()
    data.setUrls([QUrl(url) for url in urls])
    event = QDropEvent(
        QPoint(10, 10),
        Qt.DropAction.CopyAction,
        data,
        Qt.MouseButton.LeftButton,
        Qt.KeyboardModifier.NoModifier,
    )
    widget.dropEvent(event)
    return event, data


def test_a_dropped_image_becomes_the_source(empty):
    drop(empty, "file:///vm/disk.img")
    drop(empty, "nbd://host/export")
    drop(empty, "https://example.org/x.iso")
    assert empty.given == ["/vm/disk.img", "nbd://host/export"]


def test_what_is_no_image_is_not_taken(empty):
    event, _data = drop(empty, "https://example.org/x.iso")
    assert dropped_path(event) is None


def test_recent_sources_are_offered_by_name(empty):
    empty.set_recent(["/vm/a&b.img", "/vm/c.img"])
    buttons = [each for each in empty.findChildren(QPushButton) if each.property("specification")]
    assert [each.text() for each in buttons] == ["a&&b.img", "c.img"]
    buttons[0].click()
    assert empty.given == ["/vm/a&b.img"]
    empty.set_recent([])


# Fields.


def test_a_speed_is_chosen_or_typed(qapp):
    field = SpeedField()
    assert field.speed() == 0
    field.setCurrentIndex(2)
    assert field.speed() == 50 * MiB
    field.setEditText("800K")
    assert field.speed() == 800 * KiB
    field.set_speed(10 * MiB)
    assert field.currentText() == "10 MiB/s"
    field.setEditText("fast")
    with pytest.raises(ValueError, match="not a speed"):
        field.speed()


def test_an_automatic_size_is_shown_with_its_value(qapp):
    field = SizeField((4 * KiB, 64 * KiB), typed=True)
    field.set_automatic(64 * KiB)
    assert field.currentText() == "Auto (64 KiB)"
    assert field.size_bytes() == 0
    field.set_size_bytes(64 * KiB)
    assert field.size_bytes() == 64 * KiB
    field.set_size_bytes(12345)
    assert field.size_bytes() == 12345
    fixed = SizeField((4 * KiB,), typed=False)
    fixed.set_size_bytes(4 * KiB)
    assert fixed.size_bytes() == 4 * KiB


def test_a_policy_explains_itself(qapp):
    field = PolicyField("If reading fails", SOURCE_POLICIES)
    heard = []
    field.policy_edited.connect(lambda: heard.append(field.policy()))
    for policy in SOURCE_POLICIES:
        field.set_policy(policy)
        assert field.policy() is policy
        assert field.combo.accessibleDescription() == field.row.caption.text()
    assert "cannot become complete" in field.row.caption.text()
    assert heard


def test_a_tick_is_set_by_box_and_by_text(qapp):
    tick = TickBox()
    tick.set_text("Overwrite it.")
    tick.resize(300, 40)
    tick.show()
    QTest.mouseClick(tick.label, Qt.MouseButton.LeftButton)
    assert tick.is_checked()
    QTest.keyClick(tick.box, Qt.Key.Key_Space)
    assert not tick.is_checked()
    assert tick.box.accessibleName() == "Overwrite it."


# Speed menu, status line.


def test_the_speed_menu_marks_what_is_in_force(qapp):
    menu = SpeedMenu()
    heard = []
    menu.chosen.connect(heard.append)
    menu.custom_requested.connect(lambda: heard.append("other"))
    menu.show_speed(0)
    assert menu.quick[0].isChecked()
    menu.quick[50 * MiB].trigger()
    menu.show_speed(25 * MiB)
    assert menu.custom.isChecked()
    assert menu.custom.text() == "25 MiB/s..."
    menu.custom.trigger()
    assert heard == [50 * MiB, "other"]
    assert [each.text() for each in menu.quick.values()] == [
        "Unlimited",
        "10 MiB/s",
        "50 MiB/s",
        "100 MiB/s",
    ]


def test_the_status_line_speaks_to_those_who_know_qemu(qapp):
    line = StatusLine()
    line.resize(1200, 24)
    line.update_job(snapshot(error_count=2, errors=(error(),)))
    qapp.processEvents()
    assert line.job.text() == "mirror0: running"
    assert line.parameters.text() == (
        "sync=full  copy-mode=background  granularity=64.0 KiB (16 384 chunks)  "
        "buf-size=16.0 MiB  in flight: 0 (0 B)"
    )
    assert line.errors.text() == "2 errors"
    line.update_job(snapshot(JobStatus.NULL, ended_wall_ns=NOON_NS))
    assert line.job.text() == "mirror0: concluded"
    line.update_job(None)
    assert line.isHidden()
