"""A virtual machine keeps writing to its disk while that is mirrored and exchanged under it."""

import os
import time
from pathlib import Path

import pytest

from mirrorgui.mirror.options import CopyMode
from mirrorgui.mirror.snapshot import Outcome
from mirrorgui.units import MiB
from tests.interop.live import SOAK, LiveMirror, run
from tests.interop.vm import KERNEL, Machine, content, is_removed

pytestmark = [pytest.mark.interop, pytest.mark.soak]

FILES = 300 if SOAK else 30
"""That the guest writes before the switch, and again after it."""


@pytest.fixture
def images(folder: Path) -> tuple[Path, Path]:
    """A file system as the source, and an empty target."""
    assert (KERNEL / "vmlinuz").exists(), "packaging/test fetches a kernel into .vm-kernel"
    source, target = folder / "source", folder / "target"
    for path in (source, target):
        path.touch()
        os.truncate(path, 96 * MiB)
    run("mkfs.ext4", "-q", "-F", source)
    return source, target


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", CopyMode)
def test_a_machine_runs_through_the_switch_and_its_files_are_on_the_target(folder, images, mode):
    source, target = images
    with LiveMirror(source, target, folder / "guests.sock", copy_mode=mode) as mirror:
        started = time.monotonic()
        with Machine(mirror.uri, folder) as machine:
            machine.wait_for("ready")
            print(f"booted in {time.monotonic() - started:.1f} s")
            machine.wait_for("wrote", count=3)
            mirror.start().wait_ready()
            machine.wait_for("wrote", count=FILES)
            mirror.complete()
            assert mirror.wait_end().outcome is Outcome.SWITCHED
            machine.tell("switched")
            machine.wait_for("wrote after", count=FILES)
            machine.tell("stop")
            machine.wait_for("unmounted")
            machine.wait_off()
            names = machine.said("wrote")
    print(run("e2fsck", "-fn", target))
    check_files(target, names, folder / "found")
    # The source was left in the midst of its life: its journal is to be replayed, which must do.
    run("e2fsck", "-fy", source, status=1)
    listed = run("debugfs", "-R", "ls -p /", source)
    assert "/before-1/" in listed
    assert "/after-" not in listed


def check_files(image: Path, names: list[str], folder: Path) -> None:
    """Every file that the guest reported, and did not remove, is there with its content."""
    folder.mkdir()
    run("debugfs", "-R", f"rdump / {folder}", image)
    numbers = [int(name.partition("-")[2]) for name in names]
    assert numbers == list(range(1, len(names) + 1))
    kept = {
        name
        for name, number in zip(names, numbers, strict=True)
        if not is_removed(number, numbers[-1])
    }
    found = {path.name: path for path in folder.iterdir() if path.is_file()}
    assert set(found) == kept
    for name, path in found.items():
        assert path.read_bytes() == content(name), name
    assert sum(name.startswith("after-") for name in found) >= FILES // 2
