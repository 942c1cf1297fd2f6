"""What is mounted and swapped on, as the kernel tells it."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")

_ESCAPE = re.compile(r"\\([0-7]{3})")

REMOTE_TYPES = frozenset(
    ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs", "ceph", "glusterfs", "afs")
)
"""File system types where a lock taken here may mean nothing elsewhere; FUSE is another."""

NO_HOLES_TYPES = frozenset(("vfat", "msdos", "exfat"))
"""File system types that store every byte of a file."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted file system.

    Attributes:
        folder: where.
        device: number of its device (``st_dev`` of the files on it).
        type: as ``ext4``.
        source: what was mounted, as ``/dev/sda1``.
        source_device: number of the block device that ``source`` is, or 0. It differs from
            ``device`` on btrfs.
    """

    folder: str
    device: int
    type: str
    source: str
    source_device: int

    @property
    def is_remote(self) -> bool:
        """Whether QEMU's image locks may be unseen by others on it."""
        return self.type in REMOTE_TYPES or self.type == "fuse" or self.type.startswith("fuse.")


def read_mounts() -> list[Mount]:
    """List what is mounted in this process's view; empty off Linux."""
    try:
        lines = (PROC / "self" / "mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []
    return [_mount(line) for line in lines]


def mount_of(path: str) -> Mount | None:
    """Find the file system that holds a path, or would hold it once it is made."""
    real = os.path.realpath(path)
    best: Mount | None = None
    for mount in read_mounts():  # of two on the same folder the later one covers the earlier
        folder = mount.folder.rstrip("/")
        inside = real == mount.folder or real.startswith(f"{folder}/")
        if inside and (best is None or len(mount.folder) >= len(best.folder)):
            best = mount
    return best


def read_swaps() -> list[str]:
    """List the files and devices that are swapped on; empty off Linux."""
    try:
        lines = (PROC / "swaps").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []
    return [_unescape(line.split()[0]) for line in lines[1:] if line.strip()]


def _mount(line: str) -> Mount:
    # 36 35 98:0 /root /mnt rw,noatime master:1 - ext3 /dev/root rw; see proc(5)
    before, _, after = line.partition(" - ")
    fields = before.split()
    kind, source = after.split()[:2]
    major, minor = fields[2].split(":")
    source = _unescape(source)
    return Mount(
        folder=_unescape(fields[4]),
        device=os.makedev(int(major), int(minor)),
        type=kind,
        source=source,
        source_device=_device_number(source),
    )


def _device_number(path: str) -> int:
    if not path.startswith("/dev/"):
        return 0
    try:
        return Path(path).stat().st_rdev
    except OSError:
        return 0


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match.group(1), 8)), text)
