"""What lies on what: partitions, loop devices, device mapper, RAID, files; from sysfs.

Every thing that can hold an image is named by a ``Place``: a block device by its number, a regular
file by device and inode. So a path, a symbolic link, a hard link and a bind mount of the same thing
have the same place.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mirrorgui.block.mounts import read_mounts, read_swaps

SYS = Path("/sys")

_SECTOR = 512
"""Unit of sizes and starts in sysfs in bytes, whatever the device's blocks are."""

_UNIQUE_NAMES = ("naa.", "eui.", "uuid.", "nvme.")
"""World wide names that no two disks share; cheap sticks of a kind have one ``t10.`` name."""

_DEEPEST = 32
"""Loop devices over loop devices that are followed: the kernel allows fewer."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A block device (``inode`` is 0, ``device`` its own number) or a file on a device."""

    device: int
    inode: int = 0

    @property
    def is_device(self) -> bool:
        """Whether it is a block device."""
        return self.inode == 0


@dataclass(frozen=True, slots=True)
class Use:
    """Something that uses a place.

    Attributes:
        place: the user itself: a partition of it, a loop device on it, ...
        text: as ``mounted on /mnt``.
        system: this computer runs from it.
    """

    place: Place
    text: str
    system: bool = False


@dataclass(frozen=True, slots=True)
class Span:
    """Where the bytes of a place are in what it was cut out of.

    Attributes:
        base: a file or a device that is neither partition nor loop device.
        offset: first byte in it.
        length: how many bytes; ``None`` to its end.
    """

    base: Place
    offset: int = 0
    length: int | None = None

    def part(self, offset: int, length: int | None) -> "Span":
        """Return the span of some of its bytes; to its end without a length."""
        if length is None and self.length is not None:
            length = max(0, self.length - offset)
        return Span(self.base, self.offset + offset, length)

    def overlaps(self, other: "Span") -> bool:
        """Say whether two spans have bytes in common."""
        if self.base != other.base:
            return False
        first, second = sorted((self, other), key=lambda span: span.offset)
        return first.length is None or second.offset < first.offset + first.length


SYSTEM_FOLDERS = frozenset(("/", "/boot", "/boot/efi", "/efi", "/home", "/usr", "/var"))
"""Where a file system of the running system is mounted."""


def place_of(status: os.stat_result) -> Place:
    """Return the place of a file or block device from its ``stat``."""
    if stat.S_ISBLK(status.st_mode):
        return Place(status.st_rdev)
    return Place(status.st_dev, status.st_ino)


def device_name(number: int) -> str:
    """Return the path of a block device, ``/dev/sda1``; ``8:1`` where the kernel does not know."""
    folder = _device_folder(number)
    if folder is None:
        return f"{os.major(number)}:{os.minor(number)}"
    mapped = _text(folder / "dm" / "name")
    return f"/dev/mapper/{mapped}" if mapped else f"/dev/{folder.name.replace('!', '/')}"


def below(place: Place) -> set[Place]:
    """Return the place and all that its bytes lie on, down to the disks.

    A file lies on the device of its file system, a partition on its disk, a loop device on its
    file or device, a mapped or RAID device on its parts.
    """
    found: set[Place] = set()
    waiting = [place]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += _directly_below(one)
    return found


def above(place: Place) -> set[Place]:
    """Return the block devices that are made of a place, without itself."""
    found: set[Place] = set()
    waiting = [place]
    loops = list(_loops())
    while waiting:
        one = waiting.pop()
        for other in _directly_above(one, loops):
            if other not in found:
                found.add(other)
                waiting.append(other)
    return found


def span_of(place: Place) -> Span:
    """Follow partitions and loop devices down to where a place's bytes really are."""
    span = Span(place)
    for _ in range(_DEEPEST):
        folder = _device_folder(span.base.device) if span.base.is_device else None
        if folder is None:
            break
        length = _number(folder / "size") * _SECTOR
        if (folder / "partition").exists():
            lower, start = _folder_place(folder.parent), _number(folder / "start") * _SECTOR
        else:
            backing = _text(folder / "loop" / "backing_file")
            lower = _path_place(backing) if backing else None
            start = _number(folder / "loop" / "offset")
        if lower is None:
            break
        span = Span(lower, start + span.offset, length if span.length is None else span.length)
    return span


def wwid_of(place: Place) -> str:
    """Return the world wide name of a whole disk: the same by all its paths; may be empty."""
    folder = _device_folder(place.device) if place.is_device else None
    if folder is None:
        return ""
    name = _text(folder / "wwid") or _text(folder / "device" / "wwid")
    return name if name.startswith(_UNIQUE_NAMES) else ""


def disks_of(place: Place) -> set[Place]:
    """Return the devices at the very bottom: whole disks. Empty for RAM and network."""
    return {
        one
        for one in below(place)
        if one.is_device and _device_folder(one.device) is not None and not _directly_below(one)
    }


def uses_of(place: Place) -> list[Use]:
    """Say what the running system does with a place: mounts, swap, mapped devices, loops.

    Unmounted partitions are no use; a loop or mapped device is one, also when idle. So is another
    loop device over the same bytes, and what is made of it.
    """
    upper = above(place)
    for alias in _aliases(place) - upper:
        upper |= {alias} | above(alias)
    concerned = upper | {place}
    uses = []
    for mount in read_mounts():
        devices = {Place(number) for number in (mount.device, mount.source_device)} & concerned
        if devices:
            is_system = mount.folder in SYSTEM_FOLDERS
            uses.append(Use(min(devices), f"mounted on {mount.folder}", is_system))
    for path in read_swaps():
        swap = _path_place(path)
        if swap is not None and swap in concerned:
            uses.append(Use(swap, "used as swap", system=swap.is_device))
    busy = {use.place for use in uses}
    idle = [one for one in sorted(upper - busy) if not _is_partition(one)]
    return [*uses, *(Use(one, f"used by {device_name(one.device)}") for one in idle)]


def in_use_sentence(name: str, uses: list[Use]) -> str:
    """Say that something is in use, for what, and what to do."""
    what = ", ".join(dict.fromkeys(use.text for use in uses)) or "claimed by the system"
    verb = "Unmount" if "mounted" in what or not uses else "Release"
    return f"{name} is in use: {what}. {verb} it first."


def _directly_below(place: Place) -> list[Place]:
    if not place.is_device:
        host = place.device
        return [Place(host)] if _device_folder(host) is not None else []
    folder = _device_folder(place.device)
    if folder is None:
        return []
    found = [_folder_place(slave) for slave in _entries(folder / "slaves")]
    if (folder / "partition").exists():
        found.append(_folder_place(folder.parent))
    backing = _text(folder / "loop" / "backing_file")
    if backing:
        found.append(_path_place(backing))
    return [one for one in found if one is not None]


def _directly_above(place: Place, loops: list[tuple[Place, Place]]) -> list[Place]:
    found = [device for device, backing in loops if backing == place]
    folder = _device_folder(place.device) if place.is_device else None
    if folder is not None:
        parts = [entry for entry in _entries(folder) if (entry / "partition").exists()]
        for entry in [*_entries(folder / "holders"), *parts]:
            upper = _folder_place(entry)
            if upper is not None:
                found.append(upper)
    return found


def _loops() -> Iterator[tuple[Place, Place]]:
    """Yield every loop device that is set up, with what it lies on."""
    for folder in (SYS / "block").glob("loop*"):
        backing = _text(folder / "loop" / "backing_file")
        if backing:
            device, file = _folder_place(folder), _path_place(backing)
            if device is not None and file is not None:
                yield device, file


def _aliases(place: Place) -> set[Place]:
    """Return loop devices that show some of the same bytes and do not lie above or below."""
    span, lower = span_of(place), below(place)
    return {
        device for device, _ in _loops() if device not in lower and span_of(device).overlaps(span)
    }


def _is_partition(place: Place) -> bool:
    folder = _device_folder(place.device)
    return folder is not None and (folder / "partition").exists()


def _device_folder(number: int) -> Path | None:
    if os.major(number) == 0:  # no block device: tmpfs, btrfs, network
        return None
    link = SYS / "dev" / "block" / f"{os.major(number)}:{os.minor(number)}"
    return link.resolve() if link.exists() else None


def _folder_place(folder: Path) -> Place | None:
    major, colon, minor = _text(folder / "dev").partition(":")
    return Place(os.makedev(int(major), int(minor))) if colon else None


def _path_place(path: str) -> Place | None:
    try:
        return place_of(Path(path).stat())
    except OSError:  # deleted, or in another mount namespace
        return None


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _number(file: Path) -> int:
    text = _text(file)
    return int(text) if text.isdigit() else 0


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="surrogateescape").strip()
    except OSError:
        return ""
