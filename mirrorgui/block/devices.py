"""The block devices of this computer, as a person chooses among them."""

import os
from dataclasses import dataclass
from pathlib import Path

from mirrorgui.block import storage
from mirrorgui.block.storage import Place, device_name, uses_of

_SECTOR = 512
"""Unit of ``size`` in sysfs in bytes, whatever the device's blocks are."""

UDEV = Path("/run/udev/data")

_HIDDEN = ("ram", "zram", "fd", "nbd", "sr")
"""Devices that nobody mirrors onto, or that are set up by hand and then given as a path."""


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition of a device.

    Attributes:
        path: as ``/dev/sda1``.
        size: in bytes.
        label: of its file system, or its type where it has no label; may be empty.
    """

    path: str
    size: int
    label: str


@dataclass(frozen=True, slots=True)
class BlockDevice:
    """A disk, partition, loop or mapped device.

    Attributes:
        path: as ``/dev/sda``.
        number: its device number.
        model: what a person knows it by; may be empty.
        serial: its serial number; may be empty.
        size: in bytes.
        removable: it can be pulled out.
        read_only: the kernel refuses writes to it.
        partitions: what it is divided into.
        uses: what the system does with it, as ``mounted on /mnt``; empty when it is free.
        system: this computer runs from it.
    """

    path: str
    number: int
    model: str
    serial: str
    size: int
    removable: bool
    read_only: bool
    partitions: tuple[Partition, ...]
    uses: tuple[str, ...]
    system: bool

    @property
    def confirm_word(self) -> str:
        """What a person types to confirm that it is this one: of the serial, else of the path."""
        return self.serial[-4:] if len(self.serial) >= 4 else self.path.rpartition("/")[2]


def list_devices() -> list[BlockDevice]:
    """List the whole devices that have a size; partitions are inside them. Empty off Linux."""
    found = []
    for folder in sorted((storage.SYS / "block").glob("*")):
        if folder.name.startswith(_HIDDEN) or not _number(folder / "size"):
            continue
        major, _, minor = _text(folder / "dev").partition(":")
        if minor:
            device = describe_device(os.makedev(int(major), int(minor)))
            if device is not None:
                found.append(device)
    return found


def describe_device(number: int) -> BlockDevice | None:
    """Describe a block device, also a partition; ``None`` when the kernel does not know it."""
    folder = storage.SYS / "dev" / "block" / f"{os.major(number)}:{os.minor(number)}"
    if not folder.exists():
        return None
    folder = folder.resolve()
    disk = folder.parent if (folder / "partition").exists() else folder
    udev = _udev(number)
    uses = uses_of(Place(number))
    return BlockDevice(
        path=device_name(number),
        number=number,
        model=_model(disk, udev),
        serial=_serial(disk, udev),
        size=_number(folder / "size") * _SECTOR,
        removable=bool(_number(disk / "removable")),
        read_only=bool(_number(folder / "ro")),
        partitions=_partitions(folder),
        uses=tuple(use.text for use in uses),
        system=any(use.system for use in uses),
    )


def _model(disk: Path, udev: dict[str, str]) -> str:
    vendor, model = _text(disk / "device" / "vendor"), _text(disk / "device" / "model")
    if vendor.startswith("0x"):  # virtio: the number of a PCI vendor, which nobody knows
        vendor = ""
    words = f"{vendor} {model}".strip()
    mapped, backing = _text(disk / "dm" / "name"), _text(disk / "loop" / "backing_file")
    return words or udev.get("ID_MODEL", "").replace("_", " ") or mapped or backing


def _serial(disk: Path, udev: dict[str, str]) -> str:
    for file in (disk / "serial", disk / "device" / "serial"):
        serial = _text(file)
        if serial:
            return serial
    return udev.get("ID_SERIAL_SHORT", "")


def _partitions(folder: Path) -> tuple[Partition, ...]:
    parts = []
    for entry in sorted(folder.glob("*/partition"), key=_number):
        part = entry.parent
        major, _, minor = _text(part / "dev").partition(":")
        number = os.makedev(int(major), int(minor))
        udev = _udev(number)
        label = udev.get("ID_FS_LABEL") or _text_of_uevent(part) or udev.get("ID_FS_TYPE", "")
        parts.append(Partition(device_name(number), _number(part / "size") * _SECTOR, label))
    return tuple(parts)


def _text_of_uevent(part: Path) -> str:
    """The partition's own name in its table, as GPT has it."""
    for line in _text(part / "uevent").splitlines():
        if line.startswith("PARTNAME="):
            return line.removeprefix("PARTNAME=")
    return ""


def _udev(number: int) -> dict[str, str]:
    """What udev has found out about a device; empty without udev."""
    pairs = {}
    for line in _text(UDEV / f"b{os.major(number)}:{os.minor(number)}").splitlines():
        if line.startswith("E:") and "=" in line:
            key, _, value = line[2:].partition("=")
            pairs[key] = value
    return pairs


def _number(file: Path) -> int:
    text = _text(file)
    return int(text) if text.isdigit() else 0


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return ""
