"""Which programs have a file open: for the sentence that says who is in the way."""

import os
from dataclasses import dataclass
from pathlib import Path

_WRITABLE = os.O_WRONLY | os.O_RDWR
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Holder:
    """A program with a file open.

    Attributes:
        pid: its process.
        program: its name, as in ``/proc/PID/comm`` or longer.
        writing: whether it opened the file for writing.
        locked: whether it holds a lock on it.
    """

    pid: int
    program: str
    writing: bool
    locked: bool

    def __str__(self) -> str:
        return f"{self.program} (pid {self.pid})"


def find_holders(device: int, inode: int) -> list[Holder]:
    """List the other processes that have a file open; those that hold locks and write first.

    Sees only what the system shows: other people's processes stay hidden without privilege.

    Args:
        device: ``st_dev`` of the file.
        inode: ``st_ino`` of the file.
    """
    found = []
    for process in _PROC.glob("[0-9]*"):
        if int(process.name) == os.getpid():
            continue
        holder = _holder(process, device, inode)
        if holder is not None:
            found.append(holder)
    return sorted(found, key=lambda one: (not one.locked, not one.writing, one.pid))


def who_holds(fd: int) -> str:
    """Name the likeliest other holder of a file that is open here."""
    status = os.fstat(fd)
    holders = find_holders(status.st_dev, status.st_ino)
    if holders and holders[0].locked:
        return str(holders[0])
    own = _holder(_PROC / "self", status.st_dev, status.st_ino)
    if own is not None and own.locked:
        return "MirrorGUI itself"
    return str(holders[0]) if holders else "another program"


def _holder(process: Path, device: int, inode: int) -> Holder | None:
    writing = locked = found = False
    try:
        numbers = os.listdir(process / "fd")  # noqa: PTH208 - thousands of them: names are enough
    except OSError:  # gone meanwhile, or not ours to see
        return None
    for number in numbers:
        try:
            status = os.stat(f"{process}/fd/{number}")  # noqa: PTH116
            if (status.st_dev, status.st_ino) != (device, inode):
                continue
            found = True
            info = (process / "fdinfo" / number).read_text()
        except OSError:
            continue
        flags = next((line for line in info.splitlines() if line.startswith("flags:")), "flags: 0")
        writing = writing or bool(int(flags.split()[1], 8) & _WRITABLE)
        locked = locked or "\nlock:" in info
    return Holder(_pid(process), _program(process), writing, locked) if found else None


def _pid(process: Path) -> int:
    return os.getpid() if process.name == "self" else int(process.name)


def _program(process: Path) -> str:
    """Name of a program: ``comm`` has only 15 characters, so take the command line's if longer."""
    try:
        short = (process / "comm").read_text().strip()
        first = (process / "cmdline").read_bytes().split(b"\0")[0]
    except OSError:
        return "a program"
    long = os.fsdecode(first).rpartition("/")[2]
    return long if long.startswith(short) else short
