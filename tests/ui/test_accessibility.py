"""What a screen reader would find."""

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QAccessible
from PySide6.QtWidgets import QApplication, QLabel, QWidget

from mirrorgui.mirror.snapshot import Outcome
from mirrorgui.mirror.states import JobStatus
from mirrorgui.ui.availability import Act
from mirrorgui.ui.dialogs.erase import EraseDialog
from mirrorgui.ui.form import TargetKind
from mirrorgui.units import GiB
from tests.ui.fakes import device, error, snapshot, stopped


def nameless():
    """Widgets that can be reached by keyboard and say nothing."""
    found = []
    for widget in QApplication.allWidgets():
        if not widget.isVisible() or not widget.focusPolicy() & Qt.FocusPolicy.TabFocus:
            continue
        if widget.focusProxy() is not None or is_inner(widget):
            continue
        interface = QAccessible.queryAccessibleInterface(widget)
        if interface is None or not interface.text(QAccessible.Text.Name).strip():
            found.append(f"{type(widget).__name__} {widget.objectName()} in {parents(widget)}")
    return found


def is_inner(widget):
    """Parts that Qt makes inside its own widgets: the editor of a combo box, scroll areas."""
    return (
        widget.objectName().startswith("qt_")
        or (widget.parentWidget() is not None and widget.parentWidget().focusProxy() is widget)
        or type(widget.parentWidget()).__name__ in ("SpeedField", "SizeField", "QComboBox")
    )


def parents(widget: QWidget):
    names = []
    while (widget := widget.parentWidget()) is not None:
        names.append(type(widget).__name__)
    return " < ".join(names[:4])


def test_the_empty_window_names_everything(driver):
    driver.window.settings.add_recent("/vm/a.img")
    driver.window._show_recent()
    driver.settle()
    assert nameless() == []


@pytest.mark.parametrize("panel", ["map", "charts", "errors", "clients", "log"])
def test_every_view_names_everything(driver, panel):
    driver.mirror()
    driver.show(stopped(errors=(error(0), error(GiB))))
    driver.view.show_view(getattr(driver.view, panel))
    driver.settle()
    assert nameless() == []


def test_an_ended_mirror_names_everything(driver):
    driver.mirror()
    driver.show(snapshot(JobStatus.NULL, outcome=Outcome.FAILED, error="x", errors=(error(),)))
    assert nameless() == []


def test_the_dialog_names_everything(driver):
    driver.backend.listed = [device()]
    driver.window.flows.new_mirror("/vm/source.img")
    dialog = driver.window.flows.new_dialog
    driver.until(lambda: dialog.is_up_to_date)
    assert nameless() == []
    dialog.target.set_kind(TargetKind.DEVICE)
    driver.until(lambda: dialog.target.device.count() == 2)
    assert nameless() == []


@pytest.mark.parametrize("act", [Act.CANCEL, Act.SPEED, Act.POLICY])
def test_small_dialogs_name_everything(driver, act):
    driver.mirror()
    driver.trigger(act)
    assert nameless() == []


def test_the_erase_dialog_names_everything(qapp):
    dialog = EraseDialog(device())
    dialog.show()
    assert nameless() == []


def test_the_help_dialogs_name_everything(driver):
    driver.window.act.about.trigger()
    driver.window.act.keys.trigger()
    driver.settle()
    assert nameless() == []


def test_labels_of_the_dialog_lead_to_their_fields(driver):
    driver.window.flows.new_mirror()
    dialog = driver.window.flows.new_dialog
    with_mnemonic = [each for each in dialog.findChildren(QLabel) if "&" in each.text()]
    assert with_mnemonic
    assert [each.text() for each in with_mnemonic if each.buddy() is None] == []


def test_mnemonics_of_the_dialog_differ(driver):
    driver.window.flows.new_mirror()
    dialog = driver.window.flows.new_dialog
    texts = []
    for widget in dialog.findChildren(QWidget):
        text = getattr(widget, "text", lambda: "")()
        if isinstance(text, str) and "&" in text and not widget.isHidden():
            texts.append(text)
    keys = [text[text.index("&") + 1].lower() for text in texts]
    twice = sorted(text for text, key in zip(texts, keys, strict=True) if keys.count(key) > 1)
    assert twice == []


def test_a_job_in_the_list_says_its_state(driver):
    driver.mirror()
    driver.show(snapshot(JobStatus.READY))
    item = driver.window.jobs.list.item(0)
    assert item.data(Qt.ItemDataRole.AccessibleTextRole) == "source.img to target.img: in sync"


def test_the_state_can_be_reached_and_read(driver):
    driver.mirror()
    driver.show(stopped())
    state = driver.view.header.state
    assert state.focusPolicy() is Qt.FocusPolicy.TabFocus
    assert state.accessibleName() == "State: Stopped: write error at 12.0 GiB"
