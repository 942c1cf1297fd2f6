"""Serving an image over NBD: this application beside qemu-nbd, qemu-storage-daemon and nbdkit.

``python -m tests.bench.nbd DIR [--size 512M] [--seconds 2] [--rounds 3] [--only NAME ...]
[--load TEXT]``: every
server exports a file of its own in DIR (tmpfs or a disk) on a Unix socket; fio and nbdcopy ask each
of them in turn, row by row and round by round, and the medians are printed with their ratio to
qemu-nbd. Larger ratios are faster.

Neighbours on the machine disturb the percentiles more than the rates: below 15 % is noise.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mirrorgui.units import KiB, MiB, format_size, parse_size

BASE = "qemu-nbd"

_START_TIMEOUT_S = 10.0

_PLUGIN = """
import os
API_VERSION = 2
def config(key, value):
    global path
    path = value
def thread_model():
    import nbdkit
    return nbdkit.THREAD_MODEL_PARALLEL
def open(readonly):
    return os.open(path, os.O_RDWR)
def close(fd):
    os.close(fd)
def get_size(fd):
    return os.fstat(fd).st_size
def can_multi_conn(fd):
    return True
def pread(fd, buffer, offset, flags):
    os.preadv(fd, [buffer], offset)
def pwrite(fd, buffer, offset, flags):
    os.pwrite(fd, buffer, offset)
def flush(fd, flags):
    os.fdatasync(fd)
"""
"""The shortest reasonable server in nbdkit's Python plugin."""


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of load for fio."""

    rw: str
    block_size: int
    depth: int

    def __str__(self) -> str:
        kind = f"{self.rw} {format_size(self.block_size).replace('.0', '')}"
        return f"{kind} qd{self.depth}"


ROWS = [
    Row("randread", 4 * KiB, 1),
    Row("randread", 4 * KiB, 32),
    Row("randwrite", 4 * KiB, 1),
    Row("randwrite", 4 * KiB, 32),
    Row("read", 256 * KiB, 1),
    Row("read", 256 * KiB, 8),
    Row("write", 256 * KiB, 1),
    Row("write", 256 * KiB, 8),
]


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run gave: requests or MiB a second, and latencies in microseconds."""

    rate: float
    p50_us: float = 0.0
    p99_us: float = 0.0
    p999_us: float = 0.0


Command = Callable[[Path, Path, Path], list[str]]
"""From the socket, the image and a scratch folder to what serves it."""


def ours(*more: str) -> Command:
    """Return the command for this application's server."""
    command = [sys.executable, "-m", "tests.bench.nbd_serve", *more]
    return lambda path, image, _: [*command, str(path), str(image)]


def _qemu_nbd(path: Path, image: Path, _: Path) -> list[str]:
    return ["qemu-nbd", "-f", "raw", "-t", "-e", "16", "-x", "disk", "-k", str(path), str(image)]


def _storage_daemon(path: Path, image: Path, _: Path) -> list[str]:
    return [
        "qemu-storage-daemon",
        *("--blockdev", f"driver=file,filename={image},node-name=n"),
        *("--nbd-server", f"addr.type=unix,addr.path={path},max-connections=16"),
        *("--export", "type=nbd,id=e,node-name=n,name=disk,writable=on"),
    ]


def _nbdkit_file(path: Path, image: Path, _: Path) -> list[str]:
    return ["nbdkit", "-f", "-U", str(path), "file", str(image)]


def _nbdkit_python(path: Path, image: Path, scratch: Path) -> list[str]:
    plugin = scratch / "plugin.py"
    plugin.write_text(_PLUGIN)
    return ["nbdkit", "-f", "-U", str(path), "python", str(plugin), f"path={image}"]


SERVERS: dict[str, Command] = {
    "ours, tracking": ours(),
    "ours, bare": ours("--bare"),
    "qemu-nbd": _qemu_nbd,
    "qemu-storage-daemon": _storage_daemon,
    "nbdkit file": _nbdkit_file,
    "nbdkit python": _nbdkit_python,
}


@contextmanager
def serving(command: list[str], path: Path) -> Iterator[str]:
    """Run a server until the end; yields its URI."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not path.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{command[0]} does not serve")
            time.sleep(0.01)
        yield f"nbd+unix:///disk?socket={path}"
    finally:
        process.terminate()
        process.wait()


def fio(uri: str, row: Row, size: int, seconds: float) -> Figures:
    """Run fio against a server for a while."""
    done = subprocess.run(
        [
            *("fio", "--name=bench", "--ioengine=nbd", f"--uri={uri}", f"--rw={row.rw}"),
            *(f"--bs={row.block_size}", f"--iodepth={row.depth}", f"--size={size}"),
            *("--time_based", f"--runtime={seconds}", "--ramp_time=0.2", "--randseed=1"),
            "--output-format=json",
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    (job,) = json.loads(done.stdout[done.stdout.index("{") :])["jobs"]
    side = job["read" if "read" in row.rw else "write"]
    percentile = {float(key): value / 1e3 for key, value in side["clat_ns"]["percentile"].items()}
    return Figures(side["iops"], percentile[50.0], percentile[99.0], percentile[99.9])


def copy(source: str, target: str, size: int) -> Figures:
    """Run nbdcopy once."""
    started = time.perf_counter()
    subprocess.run(["nbdcopy", source, target], check=True)
    return Figures(size / MiB / (time.perf_counter() - started))


def make_image(path: Path, size: int) -> None:
    """Write random bytes, so that no program finds anything to skip."""
    block = np.random.default_rng(1).bytes(8 * MiB)
    with path.open("wb") as file:
        for _ in range(0, size, len(block)):
            file.write(block)
        file.truncate(size)


def median(runs: list[Figures]) -> Figures:
    """Return the median of each figure."""
    return Figures(
        *(
            statistics.median(getattr(run, name) for run in runs)
            for name in ("rate", "p50_us", "p99_us", "p999_us")
        )
    )


def measure(arguments: argparse.Namespace, names: list[str]) -> None:
    """Ask every server in turn and print the medians of each row."""
    size = arguments.size
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=arguments.dir)))
        sockets = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nbd-")))
        uris = {}
        for number, name in enumerate(names):
            image, path = scratch / f"image{number}", sockets / str(number)
            make_image(image, size)
            uris[name] = stack.enter_context(serving(SERVERS[name](path, image, scratch), path))
        local = scratch / "local"
        make_image(local, size)
        loads: list[tuple[str, Callable[[str], Figures]]] = [
            (str(row), lambda uri, row=row: fio(uri, row, size, arguments.seconds))  # type: ignore[misc]
            for row in ROWS
        ]
        loads.append(("nbdcopy to a file", lambda uri: copy(uri, str(local), size)))
        loads.append(("nbdcopy from a file", lambda uri: copy(str(local), uri, size)))
        for load, run in loads:
            if arguments.load not in load:
                continue
            found: dict[str, list[Figures]] = {name: [] for name in names}
            for _ in range(arguments.rounds):
                for name in names:
                    found[name].append(run(uris[name]))
            report(load, {name: median(runs) for name, runs in found.items()})


def report(load: str, found: dict[str, Figures]) -> None:
    """Print one row's table."""
    unit = "MiB/s" if load.startswith("nbdcopy") else "IOPS"
    print(f"\n{load}")
    for name, figures in found.items():
        ratio = f"{figures.rate / found[BASE].rate:5.2f}" if BASE in found else ""
        line = f"  {name:<20} {figures.rate:>9.0f} {unit:<5} {ratio}"
        if figures.p50_us:
            line += f"   p50 {figures.p50_us:7.0f}  p99 {figures.p99_us:7.0f}"
            line += f"  p99.9 {figures.p999_us:7.0f} us"
        print(line, flush=True)


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dir", type=Path, metavar="DIR")
    parser.add_argument("--size", type=parse_size, default=512 * MiB)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each run of fio")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=list(SERVERS), default=list(SERVERS))
    parser.add_argument("--load", default="", help="only rows whose name contains this")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}, {arguments.dir}")
    measure(arguments, arguments.only)


if __name__ == "__main__":
    main()
