"""The window with the real engine and real images, from the dialog to the end."""

import contextlib
import filecmp
import json
import os
import subprocess
from pathlib import Path

import pytest

from mirrorgui.mirror.options import SyncMode
from mirrorgui.mirror.snapshot import Outcome
from mirrorgui.mirror.states import OVER, JobStatus
from mirrorgui.ui.app import make_window
from mirrorgui.ui.availability import Act
from mirrorgui.ui.backend import Engine
from mirrorgui.ui.form import TargetKind
from mirrorgui.ui.models.log import LogQueue
from mirrorgui.units import KiB, MiB
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


def qemu(*words):
    done = subprocess.run(list(map(str, words)), check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def is_open(path):
    """Whether this process still has a file open."""
    found = set()
    for entry in list(Path("/proc/self/fd").iterdir()):
        with contextlib.suppress(OSError):
            found.add(str(entry.readlink()))
    return str(path) in found


@pytest.fixture
def chain(tmp_path):
    """Three layers, each with data of its own."""
    base, mid, top = (tmp_path / name for name in ("base.qcow2", "mid.qcow2", "top.qcow2"))
    create = ("qemu-img", "create", "-q", "-f", "qcow2")
    qemu(*create, base, "8M")
    qemu(*create, "-b", base, "-F", "qcow2", mid)
    qemu(*create, "-b", "mid.qcow2", "-F", "qcow2", top)
    for number, layer in enumerate((base, mid, top), 1):
        qemu("qemu-io", "-c", f"write -P {number} {number}M 900k", layer)
    return top, mid, base


def test_the_top_of_a_chain_is_mirrored_into_a_new_overlay_and_switched_to(driver, chain, tmp_path):
    from mirrorgui.ui.questions import Answer

    top, mid, base = chain
    folder = tmp_path / "other"
    folder.mkdir()
    target = folder / "target.qcow2"
    dialog = open_form(driver, top, target)
    assert dialog.source.info.texts()[-2:] == [
        "└ mid.qcow2 (qcow2, 8.0 MiB)",
        "   └ base.qcow2 (qcow2, 8.0 MiB)",
    ]
    dialog.options.sync.set_sync(SyncMode.TOP)
    dialog.target.creation.cluster_size.set_size_bytes(4 * KiB)
    driver.until(lambda: dialog.is_up_to_date)
    assert dialog.target.info.texts() == dialog.source.info.texts()[-2:]
    start_to_ready(driver, dialog)
    driver.trigger(Act.COMPLETE)
    driver.answer(Answer.SWITCH)
    driver.until(lambda: status(driver) in OVER)
    assert driver.controller.frame().snapshot.outcome is Outcome.SWITCHED
    driver.until(lambda: not is_open(target), "the target is released")
    layers = json.loads(qemu("qemu-img", "info", "--backing-chain", "--output=json", target))
    assert [layer["filename"] for layer in layers] == [str(target), str(mid), str(base)]
    assert layers[0]["cluster-size"] == 4096
    qemu("qemu-img", "check", target)
    qemu("qemu-img", "compare", top, target)
    driver.quiet()


def test_a_vmdk_is_mirrored_into_a_qcow2(driver, tmp_path):
    source, target = tmp_path / "source.vmdk", tmp_path / "target.qcow2"
    qemu("qemu-img", "create", "-q", "-f", "vmdk", source, "8M")
    qemu("qemu-io", "-c", "write -P 5 1M 100k", source)
    dialog = open_form(driver, source, target)
    assert dialog.target.format.itemText(0) == "Same as source (vmdk)"
    dialog.target.format.set_image_format("qcow2")
    driver.until(lambda: dialog.is_up_to_date)
    start_to_ready(driver, dialog)
    driver.trigger(Act.FINISH)
    driver.until(lambda: not is_open(target), "the target is released")
    qemu("qemu-img", "check", target)
    qemu("qemu-img", "compare", source, target)
    driver.quiet()
