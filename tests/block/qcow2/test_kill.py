"""Kill -9 while an image is written: nothing but leaks, and what was flushed is there."""

import os
import random
import re
import subprocess
import sys
import time
from itertools import takewhile
from pathlib import Path

import numpy as np
import pytest

from mirrorgui.block.how import How
from mirrorgui.block.open import open_image
from tests.block.qcow2.killed import SECTOR, SIZE, operations

MOMENTS = 200 if os.environ.get("MIRRORGUI_SOAK") == "1" else 30
OPTIONS = [
    "",
    "cluster_size=512",
    "lazy_refcounts=on",
    "extended_l2=on",
    "cluster_size=512,refcount_bits=64",
    "compat=v2",
    "lazy_refcounts=on,cluster_size=4k,refcount_bits=1",
    "backed",
    "extended_l2=on,cluster_size=16k,backed",
    "snapshot",
]


def qemu(*command: object, codes: tuple[int, ...] = (0,)) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode in codes, done.stdout + done.stderr
    return done.stdout + done.stderr


def create(folder: Path, options: str) -> tuple[Path, bytes]:
    """Make an image; return its path and what it reads as."""
    path, content = folder / "image.qcow2", bytes(SIZE)
    named = [each for each in options.split(",") if "=" in each]
    command: list[object] = ["qemu-img", "create", "-q", "-f", "qcow2"]
    for each in named:
        command += ["-o", each]
    if "backed" in options:
        content = random.Random(0).randbytes(SIZE)
        (folder / "base").write_bytes(content)
        command += ["-b", folder / "base", "-F", "raw"]
    qemu(*command, path, SIZE)
    if "snapshot" in options:
        qemu("qemu-io", "-c", f"write -P 77 0 {SIZE}", path)
        qemu("qemu-img", "snapshot", "-c", "kept", path)
        content = bytes([77]) * SIZE
    return path, content


def run_and_kill(
    path: Path, seed: int, threads: int, lines: int, delay_s: float
) -> list[tuple[int, int]]:
    """Return for each thread the last operation that was flushed and the last that was begun."""
    script = [sys.executable, "-m", "tests.block.qcow2.killed"]
    command = [*script, str(path), str(seed), str(threads)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        told = [line for _, line in zip(range(lines), child.stdout, strict=False)]
        time.sleep(delay_s)  # into the middle of what it does, not to wait for anything
        child.kill()
        told += child.stdout.readlines()
    assert child.returncode == -9, told[-3:]
    flushed, begun = [0] * threads, [0] * threads
    for line in told:
        found = re.fullmatch(r"(\d+) (begin|flushed) (\d+)\n", line)
        if found:
            numbers = begun if found[2] == "begin" else flushed
            numbers[int(found[1])] = int(found[3])
    return list(zip(flushed, begun, strict=True))


def compare(path: Path, content: bytes, seed: int, progress: list[tuple[int, int]]) -> None:
    """Check every sector that no operation has touched after the last flush."""
    expected = bytearray(content)
    settled = np.ones(SIZE // SECTOR, bool)
    for thread, (flushed, begun) in enumerate(progress):
        todo = operations(seed, thread, len(progress))
        for each in takewhile(lambda one, last=begun: one.number <= last, todo):
            end = each.offset + len(each.data)
            if each.number <= flushed:
                expected[each.offset : end] = each.data
            known = each.number <= flushed and each.kind != "discard"  # which may read as anything
            settled[each.offset // SECTOR : end // SECTOR] = known
    raw = path.with_suffix(".raw")
    qemu("qemu-img", "convert", "-O", "raw", path, raw)
    found = np.frombuffer(raw.read_bytes(), np.uint8).reshape(-1, SECTOR)
    wanted = np.frombuffer(bytes(expected), np.uint8).reshape(-1, SECTOR)
    lost = (found != wanted).any(axis=1) & settled
    assert not lost.any(), f"sector {int(lost.argmax())} of what was flushed: {progress}"


@pytest.mark.soak
@pytest.mark.parametrize("moment", range(MOMENTS))
def test_a_kill_loses_nothing_that_was_flushed(tmp_path: Path, moment: int) -> None:
    rng = random.Random(moment)
    options = OPTIONS[moment % len(OPTIONS)]
    path, content = create(tmp_path, options)
    seed = moment
    threads = 1 + moment // len(OPTIONS) % 2 * 3
    progress = run_and_kill(path, seed, threads, rng.randint(1, 400), rng.random() * 0.01)
    if "lazy" not in options:
        qemu("qemu-img", "check", path, codes=(0, 3))  # 3: leaks, and nothing else
    node = open_image(path, format="qcow2", how=How(field="target"))
    node.close()
    codes = (0,) if "lazy" in options else (0, 3)  # a repair leaves nothing at all
    qemu("qemu-img", "check", path, codes=codes)
    compare(path, content, seed, progress)
    if "snapshot" in options:
        qemu("qemu-img", "snapshot", "-a", "kept", path)
        compare(path, content, seed, [])
