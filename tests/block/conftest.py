"""Real loop devices, and files with known bytes."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

_ATTEMPTS = 20


def stamped(length: int, seed: int = 1) -> bytes:
    """Bytes that tell their own place, so that misplaced ones are seen; never zero."""
    words = b"".join(
        (seed * 0x1000000 + number + 1).to_bytes(8, "big") for number in range(length // 8 + 1)
    )
    return words.replace(b"\0", b"\xa5")[:length]


def run(*command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a tool; a missing or failing one fails the test."""
    return subprocess.run(
        [os.fspath(part) for part in command],
        check=check,
        capture_output=True,
        text=True,
        timeout=60,
    )


def luks_image(path: Path, size: int, key: str = "secret") -> Path:
    """Make an encrypted image.

    On a loaded machine qemu-img at times finds its own speed too uncertain, and gives up.
    """
    options = ("--object", f"secret,id=key,data={key}", "-o", "key-secret=key,iter-time=10")
    for _ in range(_ATTEMPTS):
        done = run("qemu-img", "create", "-f", "luks", *options, path, str(size), check=False)
        if "accurate CPU usage" not in done.stderr:
            break
    done.check_returncode()
    return path


def open_descriptors() -> set[str]:
    """Numbers of this process's open descriptors."""
    return {entry.name for entry in os.scandir("/proc/self/fd")}


@pytest.fixture
def loop_device() -> Iterator[Callable[..., str]]:
    """Attach files to loop devices: ``loop_device(path, *losetup options)``."""
    if os.geteuid() != 0:
        pytest.skip("loop devices need root")
    if not Path("/dev/loop-control").exists():
        pytest.skip("this kernel gives no loop devices")
    devices: list[str] = []

    def attach(path: Path, *options: str) -> str:
        device = run("losetup", "--find", "--show", *options, path).stdout.strip()
        devices.append(device)
        return device

    yield attach
    for device in devices:
        run("losetup", "--detach", device)
