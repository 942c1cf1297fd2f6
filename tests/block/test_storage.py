"""What lies on what, in a made-up sysfs: device mapper and RAID cannot be had everywhere."""

import os
from pathlib import Path

import pytest

from mirrorgui.block import devices, mounts, storage
from mirrorgui.block.devices import Partition, describe_device, list_devices
from mirrorgui.block.storage import Place, Span

SDA, SDA1, SDA2, SDB, ROOT, DATA = (
    os.makedev(major, minor)
    for major, minor in ((8, 0), (8, 1), (8, 2), (8, 16), (253, 0), (253, 1))
)


class Sys:
    """A made-up sysfs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folders: dict[int, Path] = {}
        (folder / "dev" / "block").mkdir(parents=True)
        (folder / "block").mkdir()

    def add(self, name: str, number: int, parent: int | None = None, **files: str) -> Path:
        top = self.folder / "devices" if parent is None else self.folders[parent]
        folder = top / name
        for below in ("slaves", "holders"):
            (folder / below).mkdir(parents=True)
        self.folders[number] = folder
        key = f"{os.major(number)}:{os.minor(number)}"
        self.write(folder, dev=key, size="2048", **files)
        (self.folder / "dev" / "block" / key).symlink_to(folder)
        if parent is None:
            (self.folder / "block" / name).symlink_to(folder)
        return folder

    def write(self, folder: Path, **files: str) -> None:
        for name, text in files.items():
            path = folder / name.replace("__", "/")
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"{text}\n")

    def stack(self, upper: int, lower: int) -> None:
        high, low = self.folders[upper], self.folders[lower]
        (high / "slaves" / low.name).symlink_to(low)
        (low / "holders" / high.name).symlink_to(high)


@pytest.fixture
def sys_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sys:
    """A disk with two partitions: one empty, the other in LVM with the root and a data volume."""
    made = Sys(tmp_path / "sys")
    made.add("sda", SDA, removable="1", device__model="Flash  ", device__vendor="Kingston")
    made.add("sda1", SDA1, SDA, partition="1", start="2048", uevent="PARTNAME=EFI")
    made.add("sda2", SDA2, SDA, partition="2", start="4096")
    made.add("sdb", SDB, device__wwid="naa.5000")
    made.add("dm-0", ROOT, dm__name="vg-root")
    made.add("dm-1", DATA, dm__name="vg-data")
    made.stack(ROOT, SDA2)
    made.stack(DATA, SDA2)
    proc = tmp_path / "proc"
    (proc / "self").mkdir(parents=True)
    (proc / "self" / "mountinfo").write_text(
        "22 1 253:0 / / rw - ext4 /dev/mapper/vg-root rw\n"
        "23 22 0:21 / /tmp rw shared:1 - tmpfs tmpfs rw\n"
        "24 22 0:40 / /with\\040space rw - btrfs /dev/nonexistent rw\n"
        "25 22 0:41 / /net rw - fuse.sshfs me@host:/ rw\n"
    )
    (proc / "swaps").write_text("Filename\tType\tSize\tUsed\tPriority\n")
    udev = tmp_path / "udev"
    udev.mkdir()
    (udev / "b8:2").write_text("S:disk/by-id/x\nE:ID_FS_LABEL=home sweet\nE:ID_FS_TYPE=ext4\n")
    (udev / "b8:0").write_text("E:ID_SERIAL_SHORT=0123456789ABCDEF\n")
    monkeypatch.setattr(storage, "SYS", made.folder)
    monkeypatch.setattr(mounts, "PROC", proc)
    monkeypatch.setattr(devices, "UDEV", udev)
    return made


def test_a_volume_lies_on_its_partition_and_its_disk(sys_folder: Sys) -> None:
    assert storage.below(Place(ROOT)) == {Place(ROOT), Place(SDA2), Place(SDA)}
    assert storage.above(Place(SDA)) == {Place(SDA1), Place(SDA2), Place(ROOT), Place(DATA)}
    assert storage.above(Place(SDA1)) == set()
    assert storage.disks_of(Place(DATA)) == {Place(SDA)}
    assert storage.disks_of(Place(SDB)) == {Place(SDB)}


def test_a_file_lies_on_the_device_of_its_file_system(sys_folder: Sys) -> None:
    assert Place(SDA) in storage.below(Place(ROOT, inode=5))
    assert storage.disks_of(Place(os.makedev(0, 21), inode=5)) == set()


def test_a_disk_under_the_root_volume_holds_the_system(sys_folder: Sys) -> None:
    for number in (SDA, SDA2, ROOT):
        uses = storage.uses_of(Place(number))
        assert any(use.system for use in uses)
        assert "mounted on /" in [use.text for use in uses]
    assert storage.uses_of(Place(SDA1)) == []
    assert storage.uses_of(Place(DATA)) == []


def test_an_idle_volume_is_a_use_of_its_partition(sys_folder: Sys) -> None:
    texts = [use.text for use in storage.uses_of(Place(SDA2))]
    assert texts == ["mounted on /", "used by /dev/mapper/vg-data"]


def test_swap_on_a_device_belongs_to_the_system(
    sys_folder: Sys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "swap file"
    file.touch()
    escaped = str(file).replace(" ", "\\040")
    (mounts.PROC / "swaps").write_text(f"Filename Type\n{escaped} file 1 0 -2\n")
    (use,) = storage.uses_of(storage.place_of(file.stat()))
    assert (use.text, use.system) == ("used as swap", False)
    monkeypatch.setattr(storage, "_path_place", lambda _: Place(SDA1))
    assert any(use.system for use in storage.uses_of(Place(SDA)))


def test_spans_of_partitions_overlap_with_the_disk_and_not_with_each_other(
    sys_folder: Sys,
) -> None:
    disk, first, second = (storage.span_of(Place(number)) for number in (SDA, SDA1, SDA2))
    assert disk == Span(Place(SDA))
    assert first == Span(Place(SDA), 2048 * 512, 2048 * 512)
    assert first.overlaps(disk)
    assert disk.overlaps(second)
    assert not first.overlaps(second)
    assert not first.overlaps(storage.span_of(Place(SDB)))


def test_the_world_wide_name_is_that_of_a_whole_disk(sys_folder: Sys) -> None:
    assert storage.wwid_of(Place(SDB)) == "naa.5000"
    assert storage.wwid_of(Place(SDA1)) == ""


def test_devices_are_described_for_a_choice(sys_folder: Sys) -> None:
    found = {device.path: device for device in list_devices()}
    assert list(found) == ["/dev/mapper/vg-root", "/dev/mapper/vg-data", "/dev/sda", "/dev/sdb"]
    disk = found["/dev/sda"]
    assert (disk.model, disk.serial, disk.size) == ("Kingston Flash", "0123456789ABCDEF", 1 << 20)
    assert (disk.removable, disk.system, disk.confirm_word) == (True, True, "CDEF")
    assert disk.partitions == (
        Partition("/dev/sda1", 1 << 20, "EFI"),
        Partition("/dev/sda2", 1 << 20, "home sweet"),
    )
    assert disk.uses == ("mounted on /", "used by /dev/mapper/vg-data")
    assert found["/dev/sdb"].confirm_word == "sdb"
    assert (found["/dev/mapper/vg-data"].uses, found["/dev/mapper/vg-data"].model) == (
        (),
        "vg-data",
    )


def test_a_partition_is_described_by_its_disk(sys_folder: Sys) -> None:
    part = describe_device(SDA1)
    assert part is not None
    assert (part.path, part.model, part.partitions) == ("/dev/sda1", "Kingston Flash", ())


def test_an_unknown_device_is_none(sys_folder: Sys) -> None:
    assert describe_device(os.makedev(9, 9)) is None
    assert storage.device_name(os.makedev(9, 9)) == "9:9"
    assert storage.below(Place(os.makedev(9, 9))) == {Place(os.makedev(9, 9))}


def test_the_file_system_of_a_path_is_the_innermost(sys_folder: Sys) -> None:
    def kind(path: str) -> str:
        mount = mounts.mount_of(path)
        assert mount is not None
        return mount.type

    assert [kind(path) for path in ("/x", "/tmp/x", "/tmpx", "/with space/y", "/net")] == [
        "ext4",
        "tmpfs",
        "ext4",
        "btrfs",
        "fuse.sshfs",
    ]
    assert [mount.is_remote for mount in mounts.read_mounts()] == [False, False, False, True]


def test_without_proc_and_sys_nothing_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "SYS", tmp_path)
    monkeypatch.setattr(mounts, "PROC", tmp_path)
    assert list_devices() == []
    assert mounts.read_mounts() == []
    assert mounts.read_swaps() == []
    assert mounts.mount_of("/") is None
    assert storage.uses_of(Place(SDA)) == []
