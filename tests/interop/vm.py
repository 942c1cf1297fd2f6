"""A small Linux in a virtual machine, with a guest's disk and a serial console.

Kernel and modules come from ``.vm-kernel`` (packaging/test fetches them), the rest of the system is
busybox and one script in an initial file system made here.
"""

import lzma
import subprocess
import threading
from pathlib import Path

ROOT = Path(__file__).parents[2]
KERNEL = ROOT / ".vm-kernel"
BUSYBOX = Path("/bin/busybox")

MODULES = (
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "virtio_blk",
)
"""In the order of loading; a kernel that has one built in brings no file for it."""

BOOT_S = 90.0
"""Software emulation on a busy machine; 5 to 10 s are usual."""

LINES = 4000
"""Of one file that the guest writes: 40 to 60 KiB."""

INIT = f"""#!/bin/sh
mkdir -p /proc /sys /dev /mnt
mount -t proc proc /proc
mount -t devtmpfs dev /dev
for module in {" ".join(MODULES)}; do
    [ ! -e /$module.ko ] || insmod /$module.ko
done
mount -t ext4 /dev/vda /mnt || {{ echo "guest: no disk"; reboot -f; }}
# Each word that comes over the console becomes a file.
while read word; do echo > "/told-$word"; done < /dev/ttyS0 &
echo "guest: ready"
number=0 when=before
while [ ! -e /told-stop ]; do
    [ ! -e /told-switched ] || when=after
    number=$((number + 1))
    name=$when-$number
    if yes "$name" | head -n {LINES} | dd of=/mnt/$name bs=16k conv=fsync 2>/failure; then
        echo "guest: wrote $name"
    else
        echo "guest: failed at $name: $(cat /failure)"
        reboot -f
    fi
    [ $((number % 4)) -ne 0 ] || rm /mnt/*-$((number - 2))
done
umount /mnt && echo "guest: unmounted"
reboot -f
"""
"""Writes files, each of them on the disk before it is reported, and removes every fourth again."""


def content(name: str) -> bytes:
    """Return what the guest writes into a file."""
    return f"{name}\n".encode() * LINES


def is_removed(number: int, last: int) -> bool:
    """Say whether the guest has removed its file of a number, when ``last`` was its last one."""
    return number % 4 == 2 and number + 2 <= last


def make_initial_file_system(path: Path) -> None:
    """Write the archive that the kernel unpacks into memory (format newc)."""
    files: dict[str, tuple[int, bytes]] = {
        "bin": (0o40755, b""),
        "bin/busybox": (0o100755, BUSYBOX.read_bytes()),
        "init": (0o100755, INIT.encode()),
    }
    commands = "sh mount umount mkdir insmod echo yes head dd cat rm reboot"
    files |= {f"bin/{name}": (0o120777, b"busybox") for name in commands.split()}
    files["dev"] = (0o40755, b"")
    for name in MODULES:
        files |= _module(name)
    files["TRAILER!!!"] = (0, b"")
    with path.open("wb") as archive:
        for number, (name, (mode, data)) in enumerate(files.items(), start=1):
            archive.write(_entry(number, name, mode, data))


def _module(name: str) -> dict[str, tuple[int, bytes]]:
    plain, packed = KERNEL / f"{name}.ko", KERNEL / f"{name}.ko.xz"
    if plain.exists():
        return {plain.name: (0o100644, plain.read_bytes())}
    if packed.exists():
        return {plain.name: (0o100644, lzma.decompress(packed.read_bytes()))}
    return {}


def _entry(number: int, name: str, mode: int, data: bytes) -> bytes:
    label = name.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(label), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + label
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


class Machine:
    """A running virtual machine."""

    def __init__(self, uri: str, folder: Path) -> None:
        initial = folder / "initrd"
        make_initial_file_system(initial)
        self._process = subprocess.Popen(
            [
                *("qemu-system-x86_64", "-accel", "tcg", "-m", "192", "-nodefaults", "-no-reboot"),
                *("-display", "none", "-serial", "stdio"),
                *("-kernel", str(KERNEL / "vmlinuz"), "-initrd", str(initial)),
                *("-append", "console=ttyS0 quiet panic=-1 mitigations=off nokaslr reboot=t"),
                *("-drive", f"file={uri},if=virtio,format=raw"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._changed = threading.Condition()
        self._lines: list[str] = []
        self._ended = False
        self._reader = threading.Thread(target=self._read, name="vm-console")
        self._reader.start()

    def __enter__(self) -> "Machine":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self._lines.append(line.decode(errors="replace").strip())
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def tell(self, word: str) -> None:
        """Send a word over the console."""
        assert self._process.stdin is not None
        self._process.stdin.write(word.encode() + b"\n")
        self._process.stdin.flush()

    def said(self, what: str) -> list[str]:
        """Return what the guest reported so far behind some words."""
        mark = f"guest: {what}"
        with self._changed:
            return [line.partition(mark)[2].strip() for line in self._lines if mark in line]

    def wait_for(self, what: str, *, count: int = 1, timeout_s: float = BOOT_S) -> None:
        """Return when the guest has reported something so many times."""
        mark = f"guest: {what}"
        with self._changed:
            self._changed.wait_for(
                lambda: self._ended or sum(mark in line for line in self._lines) >= count, timeout_s
            )
            seen = sum(mark in line for line in self._lines)
            assert seen >= count, "\n".join(self._lines[-40:])

    def wait_off(self, *, timeout_s: float = BOOT_S) -> None:
        """Return when the machine has switched itself off."""
        assert self._process.wait(timeout_s) == 0
