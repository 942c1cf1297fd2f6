"""Copying one image: this application beside cp, dd, qemu-img, nbdcopy and QEMU's mirror.

``python -m tests.bench.copy DIR [--size 4G] [--runs 5]``: makes a mixed image (half data, a quarter
written zeroes, a quarter holes) and one with every other 64 KiB allocated, copies each with every
program in turn, and prints medians and ratios to cp. Larger ratios are faster.

A virtual machine's host may take free pages back, which makes the first touch of a page dear and
punishes whoever writes more than the run before; so the memory or blocks that a target needs are
touched before each run, and the programs take turns.
"""

import argparse
import statistics
from pathlib import Path

import numpy as np

from mirrorgui.units import KiB, MiB, format_size, parse_size
from tests.bench.peers import OURS, PEERS, Peer, Usage

BASE = "cp --sparse=auto"


def make_mixed(path: Path, size: int) -> None:
    """Half data, a quarter written zeroes, a quarter holes, in runs of 4 MiB."""
    random = np.random.default_rng(1)
    blocks = [random.bytes(4 * MiB) for _ in range(16)]
    with path.open("wb") as file:
        file.truncate(size)
        for number, start in enumerate(range(0, size, 16 * MiB)):
            file.seek(start)
            file.write(blocks[number % 16])
            file.write(blocks[(number + 5) % 16])
            file.write(bytes(4 * MiB))


def make_scattered(path: Path, size: int) -> None:
    """Every other 64 KiB allocated."""
    random = np.random.default_rng(2)
    block = random.bytes(64 * KiB)
    with path.open("wb") as file:
        file.truncate(size)
        for start in range(0, size, 128 * KiB):
            file.seek(start)
            file.write(block)


def fresh_target(path: Path, size: int) -> None:
    """Make an empty sparse target whose storage has just been touched and given back."""
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        chunk = bytes(8 * MiB)
        for _ in range(0, size, len(chunk)):
            file.write(chunk)
    path.unlink()
    with path.open("wb") as file:
        file.truncate(size)


def measure(source: Path, target: Path, runs: int, peers: dict[str, Peer]) -> None:
    size = source.stat().st_size
    results: dict[str, list[Usage]] = {name: [] for name in peers}
    used: dict[str, int] = {}
    for turn in range(runs + 1):
        for name, peer in peers.items():
            fresh_target(target, size)
            usage = peer(source, target)
            used[name] = target.stat().st_blocks * 512
            if turn:  # the first turn warms caches
                results[name].append(usage)
    base = statistics.median(usage.wall_s for usage in results[BASE])
    print(f"{'':38}{'ratio':>7}{'time':>9}{'CPU':>9}{'peak':>11}{'allocated':>12}")
    for name, usages in results.items():
        wall = statistics.median(usage.wall_s for usage in usages)
        cpu = statistics.median(usage.cpu_s for usage in usages)
        peak = max(usage.peak for usage in usages)
        print(
            f"{name:38}{base / wall:7.2f}{wall:8.2f}s{cpu:8.2f}s"
            f"{format_size(peak):>11}{format_size(used[name]):>12}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dir", type=Path, help="where the images go: a tmpfs, or a disk")
    parser.add_argument("--size", default="4G")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", help="a part of the names to run, beside cp")
    given = parser.parse_args()
    size = parse_size(given.size)
    peers = {
        name: peer
        for name, peer in {**PEERS, **OURS}.items()
        if not given.only or name == BASE or given.only in name
    }
    source, target = given.dir / "bench-source.img", given.dir / "bench-target.img"
    try:
        for title, make in (("mixed", make_mixed), ("every other 64 KiB", make_scattered)):
            make(source, size)
            print(f"\n{title}, {format_size(size)} in {given.dir}, median of {given.runs}")
            measure(source, target, given.runs, peers)
    finally:
        source.unlink(missing_ok=True)
        target.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
