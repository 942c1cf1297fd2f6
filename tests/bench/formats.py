"""Copying between formats: this application beside ``qemu-img convert`` and QEMU's mirror.

``python -m tests.bench.formats DIR [--size 2G] [--runs 5]``: every pair of raw and qcow2, and a top
layer onto a new one over the same backing file. The image is half data, a quarter written zeroes
and a quarter nothing at all. Larger ratios are faster; 1.0 is the better of the two peers.
"""

import argparse
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mirrorgui.units import format_size, parse_size
from tests.bench.copy import fresh_target, make_mixed, make_scattered
from tests.bench.peers import Qsd, Usage, in_process, run

CONVERT = "qemu-img convert -n -W -m16"
MIRROR = "QEMU mirror"


@dataclass(frozen=True, slots=True)
class Case:
    """One direction.

    Attributes:
        source, target: formats.
        top: only the top layer of two is copied, onto a new one over the same backing file.
    """

    source: str
    target: str
    top: bool = False

    @property
    def title(self) -> str:
        return "top to top" if self.top else f"{self.source} to {self.target}"

    def is_raw_twice(self) -> bool:
        return self.source == self.target == "raw"


CASES = (Case("raw", "qcow2"), Case("qcow2", "raw"), Case("qcow2", "qcow2"))
TOP = Case("qcow2", "qcow2", top=True)


def tool(*command: object) -> None:
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)


class Images:
    """The images of one case, in one folder."""

    def __init__(self, folder: Path, case: Case, size: int, make: Callable[[Path, int], None]):
        self.case, self.size = case, size
        self.raw = folder / "bench-source.raw"
        self.base = folder / "bench-base.qcow2"
        self.qcow2 = folder / "bench-source.qcow2"
        self.target = folder / f"bench-target.{case.target}"
        make(self.raw, size)
        if case.top:
            tool("qemu-img", "create", "-q", "-f", "qcow2", self.base, size)
            tool("qemu-io", "-f", "qcow2", "-c", f"write -P 7 0 {size // 4}", self.base)
            self.create(self.qcow2)
            tool("qemu-img", "convert", "-n", "-f", "raw", "-O", "qcow2", self.raw, self.qcow2)
        elif case.source == "qcow2":
            tool("qemu-img", "convert", "-f", "raw", "-O", "qcow2", self.raw, self.qcow2)

    @property
    def source(self) -> Path:
        return self.raw if self.case.source == "raw" else self.qcow2

    def create(self, path: Path) -> None:
        """Make an empty image of the target's format."""
        below = ["-b", self.base, "-F", "qcow2"] if self.case.top else []
        tool("qemu-img", "create", "-q", "-f", "qcow2", *below, path, self.size)

    def fresh_target(self) -> None:
        fresh_target(self.target, self.size)
        if self.case.target == "qcow2":
            self.target.unlink()
            self.create(self.target)

    def check(self) -> None:
        """Both images are the same, and the target is sound."""
        formats = ["-f", self.case.source, "-F", self.case.target]
        tool("qemu-img", "compare", *formats, self.source, self.target)
        if self.case.target == "qcow2":
            tool("qemu-img", "check", "-q", "-f", "qcow2", self.target)

    def remove(self) -> None:
        for path in (self.raw, self.base, self.qcow2, self.target):
            path.unlink(missing_ok=True)


def convert(images: Images) -> Usage:
    case = images.case
    formats = ["-f", case.source, "-O", case.target]
    if case.top:
        formats += ["-B", str(images.base), "-F", "qcow2"]
    command = ["qemu-img", "convert", "-n", "-W", "-m16", *formats]
    return run([*command, str(images.source), str(images.target)])


def qemu_mirror(images: Images) -> Usage:
    """From the start of the job to COMPLETED; the daemon's own start is not counted."""
    case = images.case
    daemon = Qsd(images.target.parent)
    sides = (("src", images.source, case.source), ("dst", images.target, case.target))
    for name, path, driver in sides:
        more: dict[str, object] = {"discard": "unmap", "detect_zeroes": "unmap"}
        options = {key: value for key, value in more.items() if name == "dst"}
        if name == "dst" and case.top:
            options["backing"] = None
        file = {"driver": "file", "filename": str(path), "discard": "unmap"}
        daemon.execute("blockdev-add", driver=driver, node_name=name, file=file, **options)
    started = time.perf_counter()
    sync = "top" if case.top else "full"
    daemon.execute("blockdev-mirror", job_id="m", device="src", target="dst", sync=sync)
    daemon.wait("BLOCK_JOB_READY")
    daemon.execute("block-job-complete", device="m")
    daemon.wait("BLOCK_JOB_COMPLETED")
    wall = time.perf_counter() - started
    cpu, peak = daemon.close()
    return Usage(wall, cpu, peak)


def ours(images: Images) -> Usage:
    case = images.case
    return in_process(
        images.source,
        images.target,
        *("--source-format", case.source, "--target-format", case.target),
        *("--sync", "top" if case.top else "full"),
    )


PEERS: dict[str, Callable[[Images], Usage]] = {
    CONVERT: convert,
    MIRROR: qemu_mirror,
    "engine": ours,
}


def measure(images: Images, runs: int, peers: dict[str, Callable[[Images], Usage]]) -> None:
    results: dict[str, list[Usage]] = {name: [] for name in peers}
    used: dict[str, int] = {}
    for turn in range(runs + 1):
        for name, peer in peers.items():
            images.fresh_target()
            usage = peer(images)
            used[name] = images.target.stat().st_blocks * 512
            if turn:
                results[name].append(usage)
            else:  # the first turn warms caches, and shows that all do the same
                images.check()
    walls = {
        name: statistics.median(usage.wall_s for usage in usages)
        for name, usages in results.items()
    }
    best = min((walls[name] for name in (CONVERT, MIRROR) if name in walls), default=1.0)
    for name, usages in results.items():
        cpu = statistics.median(usage.cpu_s for usage in usages)
        print(
            f"{images.case.title:16}{name:30}{best / walls[name]:7.2f}{walls[name]:8.2f}s"
            f"{cpu:8.2f}s{format_size(used[name]):>12}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dir", type=Path, help="where the images go: a tmpfs, or a disk")
    parser.add_argument("--size", default="2G")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--case", help="a part of the names of the cases to run")
    parser.add_argument("--only", help="a part of the names of the programs to run")
    parser.add_argument("--scattered", action="store_true", help="every other 64 KiB is data")
    given = parser.parse_args()
    size = parse_size(given.size)
    peers = {name: peer for name, peer in PEERS.items() if not given.only or given.only in name}
    make = make_scattered if given.scattered else make_mixed
    print(f"{'':46}{'ratio':>7}{'time':>9}{'CPU':>9}{'allocated':>12}")
    for case in (*CASES, TOP):
        if given.case and given.case not in case.title:
            continue
        images = Images(given.dir, case, size, make)
        try:
            measure(images, given.runs, peers)
        finally:
            images.remove()


if __name__ == "__main__":
    main()
