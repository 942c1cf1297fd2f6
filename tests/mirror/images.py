"""Real qcow2 images: made, looked at and compared by QEMU's own tools."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mirrorgui.block.node import BlockNode
from mirrorgui.block.open import How, open_image


def tool(*command: object, check: bool = True) -> str:
    """Run a tool and return what it says; a failing one fails the test with its words."""
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, timeout=60
    )
    assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def make(path: Path, size: int, *, below: Path | None = None, **options: object) -> Path:
    """Make an empty qcow2 image; options are those of ``qemu-img create -o``."""
    more = [f"{key}={value}" for key, value in options.items()]
    below_it = ["-b", below, "-F", "qcow2"] if below else []
    chosen = ["-o", ",".join(more)] if more else []
    tool("qemu-img", "create", "-q", "-f", "qcow2", *below_it, *chosen, path, size)
    return path


def qemu_io(path: Path, *commands: str, driver: str = "qcow2") -> str:
    """Do something with an image as a guest would."""
    told = [part for command in commands for part in ("-c", command)]
    said = tool("qemu-io", "-f", driver, *told, path)
    assert "failed" not in said, said
    return said


@contextmanager
def opened(path: Path, **how: Any) -> Iterator[BlockNode]:
    """Open a qcow2 image with our driver."""
    node = open_image(str(path), format="qcow2", how=How("filename", **how))
    try:
        yield node
    finally:
        node.close()


def target_of(path: Path, **how: Any) -> Any:
    """Open an image as a job does with its target: what is below it comes later."""
    return opened(path, without_backing=True, **how)


def assert_same(one: Path, other: Path, driver: str = "qcow2") -> None:
    """QEMU reads the same from both; the other one is sound and leaks nothing."""
    said = tool("qemu-img", "compare", "-f", "qcow2", "-F", driver, one, other)
    assert "identical" in said
    if driver == "qcow2":
        assert_sound(other)


def assert_sound(path: Path) -> None:
    """No error, no leak."""
    found = json.loads(tool("qemu-img", "check", "-f", "qcow2", "--output=json", path))
    trouble = ("check-errors", "corruptions", "leaks", "corruptions-fixed", "leaks-fixed")
    assert not any(found.get(key) for key in trouble), found


def allocated(path: Path, *, zero: bool = False) -> list[tuple[int, int]]:
    """Runs of the top layer that hold data (or say zero), as QEMU sees them: (start, end)."""
    runs: list[tuple[int, int]] = []
    for run in json.loads(tool("qemu-img", "map", "-f", "qcow2", "--output=json", path)):
        if run["depth"] or run["zero"] is not zero or (zero and not run.get("present", True)):
            continue
        start, end = run["start"], run["start"] + run["length"]
        if runs and runs[-1][1] == start:
            start = runs.pop()[0]
        runs.append((start, end))
    return runs


def chain(path: Path) -> list[str]:
    """Names of the images of a backing chain, the top first, as QEMU follows it."""
    found = json.loads(tool("qemu-img", "info", "--backing-chain", "--output=json", path))
    return [each["filename"] for each in found]
