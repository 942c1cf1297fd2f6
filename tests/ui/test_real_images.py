"""The window with the real engine and real images, from the dialog to the end."""

import filecmp
import os
import subprocess

import pytest

from mirrorgui.mirror.snapshot import Outcome
from mirrorgui.mirror.states import OVER, JobStatus
from mirrorgui.ui.app import make_window
from mirrorgui.ui.availability import Act
from mirrorgui.ui.backend import Engine
from mirrorgui.ui.form import TargetKind
from mirrorgui.ui.models.log import LogQueue
from mirrorgui.units import MiB
from tests.ui.driving import Driver


@pytest.fixture
def driver(qapp, loop, settings):
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


@pytest.fixture
def source(tmp_path):
    """A file system with files in it."""
    files = tmp_path / "files"
    files.mkdir()
    for number in range(20):
        (files / f"{number}.bin").write_bytes(os.urandom(100_000 + number))
    image = tmp_path / "source.img"
    with image.open("wb") as file:
        file.truncate(32 * MiB + 512)
    command = ["mkfs.ext4", "-q", "-F", "-d", str(files), str(image)]
    subprocess.run(command, check=True, capture_output=True)
    return image


def open_form(driver, source, target):
    driver.window.flows.new_mirror(str(source), str(target))
    dialog = driver.window.flows.new_dialog
    driver.until(lambda: dialog.is_up_to_date, "the look at the images")
    return dialog


def status(driver):
    frame = driver.controller.frame()
    return frame.snapshot.status if frame is not None else None


def start_to_ready(driver, dialog):
    assert dialog.start.isEnabled(), dialog.reason.text()
    dialog.start.click()
    driver.until(lambda: status(driver) is JobStatus.READY, "in sync")


def test_a_file_system_is_mirrored_and_finished(driver, source, tmp_path):
    target = tmp_path / "target.img"
    dialog = open_form(driver, source, target)
    assert dialog.source.format.currentText() == "Auto (raw, detected)"
    start_to_ready(driver, dialog)
    driver.trigger(Act.FINISH)
    driver.until(lambda: status(driver) in OVER)
    assert driver.controller.frame().snapshot.outcome is Outcome.FINISHED
    driver.until(lambda: driver.controller._mirrors[0].closed)
    assert filecmp.cmp(source, target, shallow=False)
    assert target.stat().st_blocks * 512 < target.stat().st_size
    checked = subprocess.run(["e2fsck", "-f", "-n", str(target)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
    driver.quiet()


def test_an_existing_target_loses_its_garbage_after_a_tick(driver, source, tmp_path):
    target = tmp_path / "old.img"
    target.write_bytes(b"\xa5" * source.stat().st_size)
    dialog = open_form(driver, source, target)
    assert dialog.target.kind() is TargetKind.EXISTING
    assert dialog.target.overwrite.text().startswith("Overwrite old.img (32.0 MiB, changed")
    assert not dialog.start.isEnabled()
    dialog.target.overwrite.set_checked(True)
    start_to_ready(driver, dialog)
    driver.trigger(Act.FINISH)
    driver.until(lambda: driver.controller._mirrors[0].closed)
    assert filecmp.cmp(source, target, shallow=False)
    driver.quiet()


@pytest.mark.parametrize("alias", ["same", "symlink", "hardlink"])
def test_the_source_under_another_name_is_refused(driver, source, tmp_path, alias):
    target = tmp_path / "alias.img"
    if alias == "same":
        target = source
    elif alias == "symlink":
        target.symlink_to(source)
    else:
        target.hardlink_to(source)
    before = source.read_bytes()
    dialog = open_form(driver, source, target)
    assert dialog.reason.text() == "Source and target are the same image."
    assert not dialog.start.isEnabled()
    assert source.read_bytes() == before


def test_a_target_that_is_too_small_is_refused_with_the_exact_difference(driver, source, tmp_path):
    target = tmp_path / "small.img"
    target.write_bytes(bytes(source.stat().st_size - 4096))
    dialog = open_form(driver, source, target)
    assert dialog.reason.text().startswith("Target is 4.0 KiB too small")


def test_a_folder_and_a_missing_source_are_refused(driver, tmp_path):
    dialog = open_form(driver, tmp_path, tmp_path / "t.img")
    assert dialog.reason.text().endswith("is a folder. Choose an image file or a device.")
    dialog.set_source(str(tmp_path / "missing.img"))
    driver.until(lambda: "missing.img" in dialog.reason.text())
    assert not dialog.start.isEnabled()


def test_cancelling_deletes_our_own_file_only_when_asked(driver, source, tmp_path):
    from mirrorgui.ui.questions import Answer

    target = tmp_path / "target.img"
    dialog = open_form(driver, source, target)
    dialog.options.pace.speed.setEditText("1 MiB/s")
    dialog.start.click()
    driver.until(lambda: status(driver) is JobStatus.RUNNING)
    driver.trigger(Act.CANCEL)
    driver.answer(Answer.CANCEL, tick=True)
    driver.until(lambda: driver.controller._mirrors[0].closed)
    driver.until(lambda: not target.exists(), "the file is gone")
    driver.quiet()
    assert source.exists()
