"""Errors and log."""

import logging

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QFileDialog

from mirrorgui.mirror.bitmap import MapWords
from mirrorgui.mirror.events import EventLog
from mirrorgui.mirror.rates import Rates
from mirrorgui.mirror.snapshot import Outcome
from mirrorgui.mirror.states import JobStatus
from mirrorgui.ui.frame import Ends, Frame
from mirrorgui.ui.models.errors import OFFSET, STATE, TRIES
from mirrorgui.ui.models.log import (
    MAX_LINES,
    LogLine,
    LogModel,
    LogQueue,
    line_of_event,
)
from mirrorgui.ui.names import Names
from mirrorgui.ui.panels.errors import ErrorsPanel
from mirrorgui.ui.panels.log import LogFeed, LogPanel
from mirrorgui.units import GiB, KiB, MiB
from tests.ui.fakes import NOON_NS, error, full, snapshot, stopped

NAMES = Names.of("/vm/source.img", "/vm2/target.img")


def frame(now, **changes):
    return Frame(0, NAMES, Ends(), now, MapWords.empty(1), Rates(), **changes)


def reads(count):
    return tuple(error(12 * GiB + n * 128 * KiB, 64 * KiB, "read") for n in range(count))


@pytest.fixture
def errors(qapp):
    panel = ErrorsPanel()
    panel.resize(900, 400)
    panel.show()
    return panel


def cells(panel, row):
    model = panel.table.model()
    return [model.index(row, column).data() for column in range(model.columnCount())]


def test_without_errors_the_panel_says_so(errors):
    errors.update_frame(frame(snapshot()))
    assert errors.table.isHidden()
    assert not errors.copy.isEnabled()
    assert not errors.try_again.isEnabled()


def test_a_row_has_everything_about_a_place(errors):
    errors.update_frame(frame(stopped(error(tries=3))))
    assert cells(errors, 0)[1:] == [
        "write target",
        "12.000 GiB",
        "1.0 MiB",
        "Input/output error",
        "stopped",
        "3",
        "waiting",
    ]
    tip = errors.table.model().index(0, OFFSET).data(Qt.ItemDataRole.ToolTipRole)
    assert tip == "12,884,901,888 B\n0x3_0000_0000"


def test_neighbours_are_one_row_until_asked_for(errors):
    errors.update_frame(frame(stopped(errors=reads(37), error_count=37)))
    assert errors.table.model().rowCount() == 1
    assert cells(errors, 0)[1] == "read source (37 places)"
    errors.grouped.click()
    assert errors.table.model().rowCount() == 37


def test_rows_sort_by_value_not_by_text(errors):
    places = (error(9 * MiB), error(100 * MiB, operation="read"), error(2 * GiB, errno=28))
    errors.update_frame(frame(stopped(errors=places)))
    errors.table.sortByColumn(OFFSET, Qt.SortOrder.AscendingOrder)
    found = [cells(errors, row)[OFFSET] for row in range(3)]
    assert found == ["9.000 MiB", "100.000 MiB", "2.000 GiB"]


def test_the_filter_looks_into_every_column(errors):
    places = (error(0, operation="read"), error(GiB, message="No space left on device", errno=28))
    errors.update_frame(frame(stopped(errors=places)))
    QTest.keyClicks(errors.search, "SPACE")
    assert errors.table.model().rowCount() == 1
    assert cells(errors, 0)[OFFSET] == "1.000 GiB"


def test_a_selection_survives_another_try(errors):
    errors.update_frame(frame(stopped(error())))
    errors.table.selectRow(0)
    errors.update_frame(frame(stopped(error(tries=2))))
    assert [each.tries for each in errors.selected()] == [2]
    assert cells(errors, 0)[TRIES] == "2"


def test_a_solved_place_says_so_at_once(errors):
    errors.update_frame(frame(stopped(error())))
    errors.update_frame(frame(snapshot(errors=(error(solved=True),))))
    assert cells(errors, 0)[STATE] == "solved"
    assert errors.reason.text() == "Nothing is left to try again"


def test_try_again_resumes_a_stopped_mirror_only(errors):
    asked = []
    errors.try_again_requested.connect(lambda: asked.append(True))
    errors.update_frame(frame(stopped()))
    assert errors.try_again.isEnabled()
    errors.try_again.click()
    assert asked
    errors.update_frame(frame(snapshot(errors=(error(action="ignore"),))))
    assert not errors.try_again.isEnabled()
    reason = "Skipped places are tried again by themselves"
    assert errors.reason.text() == reason
    assert errors.try_again.accessibleDescription() == reason
    errors.update_frame(frame(full(), free_space=0))
    assert errors.reason.text() == "Free space: 0 B"
    over = snapshot(JobStatus.NULL, outcome=Outcome.FAILED, errors=(error(),))
    errors.update_frame(frame(over))
    assert errors.reason.text() == "This mirror has ended"


def test_a_place_is_shown_in_the_map(errors):
    asked = []
    errors.place_requested.connect(asked.append)
    errors.update_frame(frame(stopped()))
    assert not errors.show_in_map.isEnabled()
    errors.table.selectRow(0)
    errors.show_in_map.click()
    assert asked == [12 * GiB]


def test_a_flush_has_no_place_to_show(errors):
    errors.update_frame(frame(stopped(error(0, 0))))
    errors.table.selectRow(0)
    assert not errors.show_in_map.isEnabled()
    assert cells(errors, 0)[OFFSET] == "-"


def test_errors_of_a_range_are_found(errors):
    errors.update_frame(frame(stopped(errors=(error(0), error(GiB)))))
    errors.show_place(GiB - KiB, 64 * KiB)
    assert [each.offset for each in errors.selected()] == [GiB]


def test_the_number_of_open_errors_is_told(errors):
    counts = []
    errors.count_changed.connect(counts.append)
    errors.update_frame(frame(stopped(errors=(error(0), error(GiB, solved=True)))))
    errors.update_frame(frame(snapshot(errors=(error(0, solved=True),))))
    assert counts == [1, 0]


def test_lost_places_are_not_hidden(errors):
    errors.update_frame(frame(stopped(errors_lost=12)))
    assert errors._lost.text() == "12 older places are not listed any more."


def test_copy_takes_the_selection_or_everything(errors):
    errors.update_frame(frame(stopped(errors=(error(0), error(GiB)))))
    errors.copy.click()
    assert len(QGuiApplication.clipboard().text().splitlines()) == 2
    errors.table.selectRow(0)
    errors.table.setFocus()
    QTest.keyClick(errors.table, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    assert len(QGuiApplication.clipboard().text().splitlines()) == 1


def test_export_writes_a_table(errors, tmp_path):
    errors.update_frame(frame(stopped(errors=reads(3))))
    errors.export.click()
    dialog = errors.findChild(QFileDialog)
    dialog.fileSelected.emit(str(tmp_path / "errors.csv"))
    dialog.reject()
    assert len((tmp_path / "errors.csv").read_text().splitlines()) == 4


def test_a_file_that_cannot_be_written_is_told(errors, tmp_path, caplog):
    errors.update_frame(frame(stopped()))
    errors.export.click()
    dialog = errors.findChild(QFileDialog)
    dialog.fileSelected.emit(str(tmp_path / "missing" / "errors.csv"))
    dialog.reject()
    assert "could not save" in caplog.text


# Log.


def line(text, level=logging.INFO):
    return LogLine(NOON_NS, level, "test", text)


@pytest.fixture
def log(qapp):
    model = LogModel(qapp)
    panel = LogPanel(model)
    panel.resize(900, 300)
    panel.show()
    yield panel
    model.deleteLater()


def shown(panel):
    return [each.text for each in panel.shown_lines()]


def test_records_and_events_become_lines(qapp):
    queue = LogQueue()
    feed = LogFeed(queue)
    logger = logging.getLogger("mirrorgui.sample")
    logger.addHandler(queue)
    logger.setLevel(logging.INFO)
    try:
        logger.info("opened path=%s", "/x")
        try:
            raise KeyError("lost")
        except KeyError:
            logger.info("failed", exc_info=True)
    finally:
        logger.removeHandler(queue)
        logger.setLevel(logging.NOTSET)
    events = EventLog()
    queue.put(line_of_event(events.emit("BLOCK_JOB_READY", device="mirror0", len=4), "mirror0"))
    feed.stop()
    first, second, third = feed.model.lines
    assert (first.origin, first.text) == ("sample", "opened path=/x")
    assert "KeyError: 'lost'" in second.details
    assert third.text == "BLOCK_JOB_READY device=mirror0 len=4"
    feed.deleteLater()


def test_errors_of_the_job_are_lines_of_that_level():
    events = EventLog()
    failed = events.emit("BLOCK_JOB_ERROR", device="m", operation="write", action="stop")
    assert line_of_event(failed, "m").level == logging.ERROR
    ended = events.emit("BLOCK_JOB_COMPLETED", device="m", error="I/O error")
    assert line_of_event(ended, "m").level == logging.ERROR


def test_the_level_filters(log):
    log.model.add([line("quiet", logging.DEBUG), line("news"), line("bad", logging.ERROR)])
    assert shown(log) == ["news", "bad"]
    log.level.setCurrentIndex(0)
    assert shown(log) == ["quiet", "news", "bad"]
    log.level.setCurrentIndex(3)
    assert shown(log) == ["bad"]


def test_old_lines_go(log):
    log.model.add([line(str(number)) for number in range(MAX_LINES + 10)])
    log.model.add([line("last")])
    assert log.model.rowCount() == MAX_LINES
    assert log.model.lines[0].text == "11"
    assert log.model.lines[-1].text == "last"


def test_the_queue_is_bounded():
    queue = LogQueue()
    for number in range(MAX_LINES + 5):
        queue.put(line(str(number)))
    assert len(queue.take()) == MAX_LINES
    assert queue.take() == []


def test_find_goes_from_match_to_match_and_around(log):
    log.model.add([line("one fish"), line("bird"), line("two fish")])
    log.focus_find()
    QTest.keyClicks(log.search, "fish")
    assert log.found.text() == "2 found"
    rows = []
    for _ in range(3):
        QTest.keyClick(log.search, Qt.Key.Key_Return)
        rows.append(log.table.selectionModel().selectedRows()[0].row())
    assert rows == [0, 2, 0]
    log.previous.click()
    assert log.table.selectionModel().selectedRows()[0].row() == 2


def test_the_view_follows_the_end_unless_somebody_reads(log, qapp):
    log.model.add([line(str(number)) for number in range(200)])
    qapp.processEvents()
    bar = log.table.verticalScrollBar()
    assert bar.value() == bar.maximum()
    bar.setValue(0)
    log.model.add([line("more")])
    assert bar.value() == 0


def test_log_lines_are_copied_and_saved(log, tmp_path):
    log.model.add([line("first"), line("second")])
    log.copy.click()
    assert QGuiApplication.clipboard().text().endswith("Info test: second")
    log.save_to(tmp_path / "out.log")
    assert len((tmp_path / "out.log").read_text().splitlines()) == 2


def test_times_and_levels_of_the_log_are_never_cut(log):
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        log.model.add([line("text", level)])
    log.level.setCurrentIndex(0)
    table = log.table
    for column in (0, 1):
        assert table.columnWidth(column) >= table.sizeHintForColumn(column)
