"""The New mirror dialog: every field, every rule, every text."""

import asyncio
from dataclasses import replace

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QFileDialog

from mirrorgui.block.creation import TargetCreation, TargetMode
from mirrorgui.block.info import ImageInfo
from mirrorgui.block.safety import Finding, Severity
from mirrorgui.errors import BlockIOError, ImageRefused, InvalidInput
from mirrorgui.mirror.options import CopyMode, ErrorPolicy, MirrorOptions, SyncMode
from mirrorgui.session import MirrorRequest, WhenReady
from mirrorgui.ui.dialogs.device_picker import DevicePicker
from mirrorgui.ui.dialogs.erase import EraseDialog
from mirrorgui.ui.dialogs.options_part import GRANULARITIES
from mirrorgui.ui.form import TargetKind
from mirrorgui.units import GiB, KiB, MiB
from tests.ui.fakes import IMAGE, device

SOURCE, TARGET = "/vm/source.img", "/vm2/target.img"
CONFIRM = "Overwrite target.img (14.2 GiB, changed yesterday 18:12). Its content will be lost."
OVERLAY = ImageInfo(
    SOURCE,
    "qcow2",
    64 * GiB,
    cluster_size=64 * KiB,
    backing_filename="base.qcow2",
    full_backing_filename="/vm/base.qcow2",
    backing=ImageInfo("/vm/base.qcow2", "qcow2", 64 * GiB),
)


@pytest.fixture
def form(driver):
    driver.window.flows.new_mirror()
    dialog = driver.window.flows.new_dialog
    dialog.driver = driver
    return dialog


def look(form):
    """Let the dialog find out what it wants to know."""
    form._look()
    form.driver.until(lambda: form.is_up_to_date, "the look at the images")


def fill(form, source=SOURCE, target=TARGET):
    form.set_source(source)
    form.set_target(target)
    look(form)


def findings(form, *found):
    form.driver.backend.findings = [
        Finding(severity, code, "target", text) for severity, code, text in found
    ]


def test_an_empty_form_says_what_is_missing(form):
    assert form.reason.text() == "Choose a source."
    assert form.reason.property("look") == "muted"  # nothing is wrong yet
    assert not form.start.isEnabled()
    assert form.start.accessibleDescription() == "Choose a source."
    form.set_source(SOURCE)
    look(form)
    assert form.reason.text() == "Say where the new file goes."
    assert form.remarks.texts() == []


def test_the_start_waits_until_the_images_have_been_looked_at(form):
    form.set_source(SOURCE)
    form.set_target(TARGET)
    assert form.reason.text() == "Say where the new file goes." or not form.start.isEnabled()
    look(form)
    assert form.start.isEnabled()
    form.target.path.setText("/vm2/other.img")
    assert form.reason.text() == "Looking at the images..."
    assert not form.start.isEnabled()


def test_typing_is_waited_for_before_a_look(form):
    form.set_source("/v")
    form.set_source(SOURCE)
    form.driver.until(lambda: form.is_up_to_date)
    assert form.look.source.filename == SOURCE


def test_only_the_newest_look_counts(form):
    fill(form)
    old = form.look
    form.set_source("/vm/other.img")
    form._look()
    form.set_source("/vm/third.img")
    form._look()
    form.driver.until(lambda: form.is_up_to_date)
    assert form.look is not old
    assert form.look.source.filename == "/vm/third.img"


def test_a_good_pair_can_start(form):
    fill(form)
    assert form.reason.text() == ""
    assert form.start.text().replace("&", "") == "Start mirroring"
    assert form.start.isDefault()
    assert form.summary.text() == f"Copies 1.0 GiB from {SOURCE} to the new file {TARGET}."


def test_start_makes_the_request_and_closes(form):
    fill(form)
    driver = form.driver
    form.start.click()
    driver.until(lambda: driver.window.flows.new_dialog is None)
    session = driver.backend.sessions[-1]
    assert session.started
    assert session.request.source == SOURCE
    assert session.request.target == TARGET
    assert session.request.options.job_id == "mirror0"
    assert driver.window.settings.recent == [SOURCE]


def test_enter_starts_what_is_harmless(form):
    fill(form)
    form.source.path.setFocus()
    QTest.keyClick(form.source.path, Qt.Key.Key_Return)
    form.driver.until(lambda: form.driver.backend.sessions)


@pytest.mark.parametrize(
    "reason",
    [
        "Cannot read /vm/source.img: Permission denied.",
        "/vm is a folder. Choose an image file or a device.",
        "Open for writing by qemu-system-x86_64 (pid 812). Two writers destroy an image.",
    ],
)
def test_a_source_that_cannot_be_read_is_said_beside_start(form, reason):
    form.driver.backend.infos[SOURCE] = ImageRefused("source", SOURCE, reason)
    fill(form)
    assert form.reason.text() == reason
    assert form.start.accessibleDescription() == reason
    assert not form.start.isEnabled()


@pytest.mark.parametrize(
    "text",
    [
        "Source and target are the same image.",
        "/dev/loop0 lies on /vm/source.img. Writing to it would destroy the source.",
        "Target is 4.0 KiB too small (64.0 GiB needed, 63.99 GiB there).",
        "/dev/sda holds this computer's system. MirrorGUI will not write to it.",
    ],
)
def test_every_refusal_of_the_check_stands_beside_start(form, text):
    findings(form, (Severity.REFUSE, "x", text))
    fill(form)
    assert form.reason.text() == text
    assert not form.start.isEnabled()
    QTest.keyClick(form, Qt.Key.Key_Return)
    form.driver.settle()
    assert not form.driver.backend.sessions


def test_warnings_are_listed_and_do_not_forbid(form):
    findings(
        form,
        (Severity.WARN, "low-space", "May run out of space: up to 1.0 GiB needed, 1.0 MiB free."),
        (Severity.HINT, "same-disk", "Same disk: expect half the speed."),
    )
    fill(form)
    assert form.start.isEnabled()
    assert form.remarks.texts() == [
        "May run out of space: up to 1.0 GiB needed, 1.0 MiB free.",
        "Same disk: expect half the speed.",
    ]


def test_a_second_refusal_is_listed(form):
    findings(form, (Severity.REFUSE, "a", "First."), (Severity.REFUSE, "b", "Second."))
    fill(form)
    assert form.reason.text() == "First."
    assert form.remarks.texts() == ["Second."]


def test_the_dialog_grows_for_what_it_has_to_say(form):
    fill(form)
    form.resize(form.width(), 400)
    form.driver.settle()
    findings(form, *((Severity.WARN, str(n), f"Warning {n}.") for n in range(6)))
    look(form)
    form.driver.settle()
    assert form.height() > 400


def existing(form, tmp_path, name="target.img"):
    """Fill in a target that exists and needs agreement."""
    path = tmp_path / name
    path.write_bytes(b"content")
    findings(form, (Severity.CONFIRM, "overwrite", CONFIRM))
    fill(form, target=str(path))
    return path


def test_overwriting_needs_a_tick_and_a_red_button(form, tmp_path):
    existing(form, tmp_path)
    assert form.target.kind() is TargetKind.EXISTING
    assert form.target.overwrite.text() == CONFIRM
    assert form.reason.text() == "Tick that the target's content may be lost."
    assert form.start.text().replace("&", "") == "Erase and start"
    assert form.start.property("look") == "danger"
    form.target.overwrite.set_checked(True)
    assert form.start.isEnabled()


def test_enter_never_erases(form, tmp_path):
    existing(form, tmp_path)
    form.target.overwrite.set_checked(True)
    assert not form.start.isDefault()
    assert not form.start.autoDefault()
    for widget in (form.source.path, form.target.path, form.target.overwrite.box, form):
        QTest.keyClick(widget, Qt.Key.Key_Return)
    form.driver.settle()
    assert form.isVisible()
    assert not form.driver.backend.sessions


def test_the_tick_is_for_one_image_only(form, tmp_path):
    existing(form, tmp_path)
    form.target.overwrite.set_checked(True)
    existing(form, tmp_path, "other.img")
    assert not form.target.overwrite.is_checked()
    assert not form.start.isEnabled()


def test_erase_and_start_sends_the_agreement(form, tmp_path):
    existing(form, tmp_path)
    form.target.overwrite.set_checked(True)
    form.start.click()
    form.driver.until(lambda: form.driver.backend.sessions)
    assert form.driver.backend.sessions[-1].request.overwrite


def test_a_refusal_while_opening_is_said_and_the_form_stays(form, caplog):
    fill(form)
    reason = "The device chosen before is gone. Choose the target again."
    form.driver.backend.refuse = ImageRefused("target", TARGET, reason)
    form.start.click()
    form.driver.until(lambda: form.reason.text() == reason)
    assert form.isVisible()
    form.driver.backend.refuse = BlockIOError("read", 0, 512, 5, "source.img")
    form.start.click()
    form.driver.until(lambda: "Input/output error" in form.reason.text())


def test_a_start_is_not_started_twice(form):
    driver = form.driver

    async def close_gate():
        driver.backend.gate = asyncio.Event()

    fill(form)
    driver.run(close_gate())
    form.start.click()
    driver.settle()
    assert form.reason.text() == "Opening both images..."
    assert not form.start.isEnabled()
    form._start_pressed()
    driver.backend.gate.set()
    driver.until(lambda: driver.window.flows.new_dialog is None)
    assert len(driver.backend.sessions) == 1


# Source.


def test_the_source_is_described(form):
    fill(form)
    assert form.source.format.currentText() == "Auto (raw, detected)"
    texts = form.source.info.texts()
    assert "1.0 GiB (1 073 741 824 bytes)" in texts
    assert "No known image header found. It will be read as raw." in texts


def test_a_fixed_format_is_no_guess(form):
    fill(form)
    form.source.format.set_image_format("raw")
    look(form)
    assert "No known image header found. It will be read as raw." not in form.source.info.texts()
    assert form.values().source_format == "raw"


def test_a_missing_backing_file_is_red_and_forbids_the_start(form):
    broken = replace(OVERLAY, backing=None, backing_error="No such file or directory")
    form.driver.backend.infos[SOURCE] = broken
    fill(form)
    assert form.reason.text() == (
        "Could not open backing file /vm/base.qcow2: No such file or directory."
    )
    assert "missing: /vm/base.qcow2" in form.source.info.texts()


def test_a_source_is_browsed_for(form):
    form.source.browse.click()
    dialog = form.findChild(QFileDialog)
    assert "*.qcow2" in dialog.nameFilters()[0]
    dialog.fileSelected.emit("/vm/found.img")
    dialog.reject()
    assert form.source.path.text() == "/vm/found.img"
    assert form.driver.window.settings.folder == "/vm"


def test_a_source_device_is_picked_from_a_list(form):
    form.driver.backend.listed = [device()]
    form.source.devices.click()
    form.driver.until(lambda: form.findChild(DevicePicker))
    picker = form.findChild(DevicePicker)
    assert picker.list.item(0).text() == (
        "/dev/sdb - Kingston DataTraveler, 32.0 GiB, serial 0C9D92C5F1E4"
    )
    assert not picker.choose.isEnabled()
    picker.list.setCurrentRow(1)
    picker.choose.click()
    assert form.source.path.text() == "/dev/sdb1"


# Target.


def test_the_kind_of_target_follows_what_is_there(form, tmp_path):
    (tmp_path / "there.img").write_bytes(b"")
    form.set_target(str(tmp_path / "there.img"))
    assert form.target.kind() is TargetKind.EXISTING
    form.set_target(str(tmp_path / "new.img"))
    assert form.target.kind() is TargetKind.NEW


def test_nothing_destructive_is_preselected(form):
    form.driver.backend.listed = [device(), device("/dev/sdc")]
    assert form.target.kind() is TargetKind.NEW
    assert not form.target.overwrite.is_checked()
    form.target.set_kind(TargetKind.DEVICE)
    form.driver.until(lambda: form.target.device.count() == 3)
    assert form.target.target() == ""


def test_a_target_is_browsed_for(form):
    form.target.browse.click()
    dialog = form.findChild(QFileDialog)
    assert dialog.acceptMode() is QFileDialog.AcceptMode.AcceptSave
    dialog.fileSelected.emit("/vm2/new.img")
    dialog.reject()
    assert form.target.path.text() == "/vm2/new.img"
    form.target.set_kind(TargetKind.EXISTING)
    form.target.browse.click()
    [second] = [each for each in form.findChildren(QFileDialog) if each.isVisible()]
    assert second.acceptMode() is QFileDialog.AcceptMode.AcceptOpen
    second.reject()


def onto_device(form, *listed):
    form.driver.backend.listed = list(listed)
    findings(form, (Severity.CONFIRM, "erase-device", "All data on it will be lost."))
    form.set_source(SOURCE)
    form.target.set_kind(TargetKind.DEVICE)
    form.driver.until(lambda: form.target.device.count() == 1 + len(listed))
    form.target.device.setCurrentIndex(1)
    look(form)


def erase_dialog(form):
    form.start.click()
    form.driver.until(lambda: form.findChild(EraseDialog))
    return form.findChild(EraseDialog)


def test_a_device_needs_its_name_typed(form):
    onto_device(form, device())
    assert form.target.overwrite.isHidden()
    assert form.start.text().replace("&", "") == "Erase and start"
    dialog = erase_dialog(form)
    assert dialog.windowTitle() == "Erase Kingston DataTraveler?"
    assert dialog.text.text() == (
        "All data on Kingston DataTraveler, 32.0 GiB, serial 0C9D92C5F1E4 (/dev/sdb) will be lost: "
        "1 partition: HOLIDAY."
    )
    assert dialog.prompt.text() == "Type F1E4 to confirm:"
    assert not dialog.erase.isEnabled()
    assert dialog.cancel.isDefault()
    QTest.keyClicks(dialog.word, "F1E4")
    assert dialog.erase.isEnabled()
    QTest.keyClick(dialog.word, Qt.Key.Key_Return)
    assert dialog.isVisible()
    dialog.erase.click()
    form.driver.until(lambda: form.driver.backend.sessions)
    assert form.driver.backend.sessions[-1].request.overwrite
    assert form.driver.backend.sessions[-1].request.target == "/dev/sdb"


def test_escape_keeps_the_device(form):
    onto_device(form, device())
    dialog = erase_dialog(form)
    QTest.keyClicks(dialog.word, "F1E4")
    QTest.keyClick(dialog, Qt.Key.Key_Escape)
    form.driver.settle()
    assert not form.driver.backend.sessions
    assert form.isVisible()
    assert form.start.isEnabled()


def test_a_device_without_a_serial_is_named_by_its_path(qapp):
    dialog = EraseDialog(device(serial="", model=""))
    assert dialog.prompt.text() == "Type sdb to confirm:"
    assert dialog.windowTitle() == "Erase /dev/sdb?"


@pytest.mark.parametrize("now", [[], [device(serial="OTHER-0001")]])
def test_a_device_that_was_exchanged_is_not_erased(form, now):
    onto_device(form, device())
    dialog = erase_dialog(form)
    form.driver.backend.listed = now
    QTest.keyClicks(dialog.word, "F1E4")
    dialog.erase.click()
    text = "The device chosen before is gone. Choose the target again."
    form.driver.until(lambda: form.reason.text() == text)
    assert form.target.target() == ""
    assert not form.driver.backend.sessions


def test_devices_in_use_say_so(form):
    onto_device(form, device(uses=("mounted on /mnt",)), device("/dev/sda", system=True))
    assert form.target.device.itemText(1).endswith("in use")
    assert form.target.device.itemText(2).endswith("this computer's system")


# Options.


def test_defaults_are_the_harmless_ones(form):
    fill(form)
    values = form.values()
    assert values.sync is SyncMode.FULL
    assert values.copy_mode is CopyMode.BACKGROUND
    assert (values.granularity, values.buf_size, values.speed) == (0, 0, 0)
    assert values.on_source_error is ErrorPolicy.STOP
    assert values.on_target_error is ErrorPolicy.STOP
    assert values.when_ready is WhenReady.WAIT


def test_top_needs_a_backing_file(form):
    top = form.options.sync.buttons[SyncMode.TOP]
    fill(form)
    reason = "The source has no backing file, so Top equals Full."
    assert not top.isEnabled()
    assert top.toolTip() == reason
    form.driver.backend.infos[SOURCE] = OVERLAY
    look(form)
    assert top.isEnabled()
    assert top.accessibleDescription() == (
        "only the top layer; target keeps the backing file base.qcow2"
    )
    top.setChecked(True)
    form.driver.backend.infos[SOURCE] = IMAGE
    look(form)
    assert form.values().sync is SyncMode.FULL


def test_none_warns_about_what_the_target_must_hold(form):
    fill(form)
    form.options.sync.set_sync(SyncMode.NONE)
    look(form)
    assert form.remarks.texts() == [
        "The target is usable only if it already holds the source's present content."
    ]
    assert form.start.isEnabled()


def test_granularity_offers_the_powers_of_two_and_counts_chunks(form):
    assert GRANULARITIES[0] == 512
    assert GRANULARITIES[-1] == 64 * MiB
    assert len(GRANULARITIES) == 18
    fill(form)
    pace = form.options.pace
    assert pace.granularity.currentText() == "Auto (64 KiB)"
    assert pace.granularity_row.caption.text() == "16 384 chunks, 2 KiB bitmap"
    pace.granularity.set_size_bytes(4 * KiB)
    assert pace.granularity_row.caption.text() == "262 144 chunks, 32 KiB bitmap"
    assert form.values().granularity == 4 * KiB


def test_the_buffer_is_rounded_up_where_that_can_be_seen(form):
    fill(form)
    pace = form.options.pace
    assert pace.buf_size.currentText() == "Auto (16 MiB)"
    pace.buf_size.setEditText("100K")
    assert pace.buf_size_row.caption.text() == "rounded up to 128 KiB"
    assert form.values().buf_size == 100 * KiB


@pytest.mark.parametrize(
    ("field", "text", "reason"),
    [
        ("speed", "fast", "'fast' is not a speed (examples: 25, 800K, 1.5G)."),
        ("speed", "-5", "A speed limit is not negative (0 means unlimited)."),
        ("buf_size", "-4K", "A size is not negative."),
        ("buf_size", "lots", "'lots' is not a size (examples: 65536, 64K, 10M, 1G)."),
    ],
)
def test_what_cannot_be_read_is_said_beside_start(form, field, text, reason):
    fill(form)
    getattr(form.options.pace, field).setEditText(text)
    assert form.reason.text() == reason
    assert not form.start.isEnabled()
    getattr(form.options.pace, field).setEditText("")
    assert form.start.isEnabled()


def test_a_slow_limit_is_warned_about(form):
    fill(form)
    form.options.pace.speed.setEditText("1000 B")
    assert form.remarks.texts() == ["Less than one chunk per second."]


def test_choices_explain_themselves(form):
    pace, policy = form.options.pace, form.options.policy
    pace.copy_mode.setCurrentIndex(1)
    assert pace.copy_mode_row.caption.text() == (
        "Guaranteed to converge; clients become as slow as the target."
    )
    policy.when_ready.setCurrentIndex(1)
    assert policy.when_ready_row.caption.text() == "Clients move to the target without a break."
    policy.writing.set_policy(ErrorPolicy.IGNORE)
    assert policy.writing.row.caption.text() == (
        "Goes on. The place stays marked and is tried again; the mirror cannot become complete "
        "while it fails."
    )


def test_every_option_reaches_the_request(form):
    fill(form)
    form.options.sync.set_sync(SyncMode.NONE)
    form.options.pace.granularity.set_size_bytes(128 * KiB)
    form.options.pace.buf_size.set_size_bytes(64 * MiB)
    form.options.pace.copy_mode.setCurrentIndex(1)
    form.options.pace.speed.setCurrentIndex(1)
    form.options.policy.reading.set_policy(ErrorPolicy.REPORT)
    form.options.policy.writing.set_policy(ErrorPolicy.ENOSPC)
    form.options.policy.when_ready.setCurrentIndex(2)
    form.source.format.set_image_format("raw")
    form.target.format.set_image_format("raw")
    look(form)
    form.start.click()
    form.driver.until(lambda: form.driver.backend.sessions)
    assert form.driver.backend.sessions[-1].request == MirrorRequest(
        source=SOURCE,
        target=TARGET,
        source_format="raw",
        target_format="raw",
        target_mode=TargetMode.ABSOLUTE_PATHS,
        when_ready=WhenReady.CANCEL,
        options=MirrorOptions(
            job_id="mirror0",
            sync=SyncMode.NONE,
            granularity=128 * KiB,
            buf_size=64 * MiB,
            copy_mode=CopyMode.WRITE_BLOCKING,
            speed=10 * MiB,
            on_source_error=ErrorPolicy.REPORT,
            on_target_error=ErrorPolicy.ENOSPC,
        ),
    )


# A file that is made.


def over_a_chain(form, sync=SyncMode.FULL):
    """Fill in a source with a backing file and a new target."""
    form.driver.backend.infos[SOURCE] = OVERLAY
    fill(form)
    form.options.sync.set_sync(sync)
    look(form)
    return form.target.creation


def shown(row):
    return not row.isHidden()


def test_a_new_file_has_the_options_of_its_format(form):
    fill(form)
    creation = form.target.creation
    rows = (creation.cluster_size_row, creation.preallocation_row, creation.lazy_refcounts_row)
    assert form.target.format.itemText(0) == "Same as source (raw)"
    assert [shown(row) for row in rows] == [False, True, False]
    form.target.format.set_image_format("qcow2")
    assert [shown(row) for row in rows] == [True, True, True]
    form.target.set_kind(TargetKind.EXISTING)
    assert [shown(row) for row in rows] == [False, False, False]
    offered = [form.target.format.itemText(n) for n in range(1, form.target.format.count())]
    assert offered == ["raw", "qcow2", "vmdk", "vdi", "vhdx", "vpc", "qed"]


def test_the_options_of_a_new_file_reach_the_request(form):
    creation = over_a_chain(form)
    creation.cluster_size.set_size_bytes(4 * KiB)
    creation.preallocation.setCurrentIndex(creation.preallocation.findData("falloc"))
    creation.lazy_refcounts.setChecked(True)
    look(form)
    form.start.click()
    form.driver.until(lambda: form.driver.backend.sessions)
    request = form.driver.backend.sessions[-1].request
    assert request.creation == TargetCreation("falloc", 4 * KiB, lazy_refcounts=True)
    assert request.target_mode is TargetMode.ABSOLUTE_PATHS


def test_beside_a_backing_file_nothing_can_be_reserved(form):
    creation = over_a_chain(form)
    creation.preallocation.setCurrentIndex(creation.preallocation.findData("full"))
    assert creation.preallocation_row.caption.text().startswith("Zeroes are written now")
    form.options.sync.set_sync(SyncMode.TOP)
    look(form)
    assert not creation.preallocation.isEnabled()
    assert creation.preallocation.currentData() == "off"
    assert creation.preallocation_row.caption.text().startswith("Beside a backing file")


def test_what_lies_below_a_new_file_follows_what_is_copied(form):
    over_a_chain(form)
    assert form.target.info.texts() == ["none, the file stands alone"]
    form.options.sync.set_sync(SyncMode.TOP)
    look(form)
    assert form.target.info.texts() == ["└ base.qcow2 (qcow2, 64.0 GiB)"]
    form.options.sync.set_sync(SyncMode.NONE)
    look(form)
    assert form.target.info.texts() == [
        "└ source.img (qcow2, 64.0 GiB)",
        "   └ base.qcow2 (qcow2, 64.0 GiB)",
    ]
    assert form.options.sync.buttons[SyncMode.NONE].accessibleDescription() == (
        "only what is written from now on; the new file keeps the source below it"
    )


def test_granularity_follows_the_clusters_of_a_new_file(form):
    creation = over_a_chain(form)
    granularity = form.options.pace.granularity
    assert granularity.itemText(0) == "Auto (64 KiB)"
    creation.cluster_size.set_size_bytes(8 * KiB)
    assert granularity.itemText(0) == "Auto (8 KiB)"


@pytest.mark.parametrize("name", ["cluster_size", "preallocation", "target-format"])
def test_what_is_wrong_with_an_option_is_said_below_it(form, name):
    creation = over_a_chain(form)
    rows = {
        "cluster_size": creation.cluster_size_row,
        "preallocation": creation.preallocation_row,
        "target-format": form.target.format_row,
    }
    usual = rows[name].caption.text()
    form.driver.backend.findings = InvalidInput(name, "x", "That is not possible.")
    look(form)
    assert rows[name].caption.text() == "That is not possible."
    assert form.reason.text() == "That is not possible."
    assert not form.start.isEnabled()
    form.driver.backend.findings = []
    look(form)
    assert rows[name].caption.text() == usual
    assert form.start.isEnabled()


def test_a_retry_makes_the_file_as_before(form):
    creation = TargetCreation("metadata", 4 * KiB, lazy_refcounts=True)
    form.driver.backend.infos[SOURCE] = OVERLAY
    form.fill(MirrorRequest(SOURCE, TARGET, target_format="qcow2", creation=creation))
    form.set_target(TARGET)
    look(form)
    form.start.click()
    form.driver.until(lambda: form.driver.backend.sessions)
    request = form.driver.backend.sessions[-1].request
    assert (request.creation, request.target_format) == (creation, "qcow2")


# The dialog itself.


def test_a_retry_is_filled_in_but_for_the_target(form):
    options = MirrorOptions(speed=5 * MiB, on_target_error=ErrorPolicy.IGNORE)
    form.fill(MirrorRequest(SOURCE, TARGET, overwrite=True, options=options))
    values = form.values()
    assert values.source == SOURCE
    assert values.speed == 5 * MiB
    assert values.on_target_error is ErrorPolicy.IGNORE
    assert values.target == ""
    assert not values.overwrite


def test_f5_looks_again(form):
    fill(form)
    form.driver.backend.infos[SOURCE] = ImageRefused("source", SOURCE, "It is gone.")
    form.refresh()
    form.driver.until(lambda: form.reason.text() == "It is gone.")


def test_narrow_dialogs_put_the_columns_below_each_other(form):
    form.resize(form.fontMetrics().averageCharWidth() * 90, 500)
    form.driver.settle()
    assert form._columns.direction().name == "TopToBottom"
    form.resize(form.fontMetrics().averageCharWidth() * 170, 500)
    form.driver.settle()
    assert form._columns.direction().name == "LeftToRight"


def test_escape_closes_without_starting(form):
    fill(form)
    QTest.keyClick(form, Qt.Key.Key_Escape)
    form.driver.settle()
    assert form.driver.window.flows.new_dialog is None
    assert not form.driver.backend.sessions
