"""A guest that writes while its disk is mirrored: this application beside QEMU's mirror.

``python -m tests.bench.live DIR [--size 2G] [--seconds 6] [--rounds 1] [--only TEXT] [--mode MODE]
[--load TEXT]``: fio writes at random places of an export of a file in DIR (a tmpfs or a disk); then
it does so again, and half a second later a mirror onto another file begins. Printed are the guest's
requests a second and their latency without the mirror, while it copies (from its start to READY),
and while it is in sync; how long it took to READY; and how long the mirror took to converge after
the guest's end. After each run both images are compared.

QEMU is qemu-storage-daemon: the node exported over NBD is mirrored with blockdev-mirror, defaults
throughout.
"""

import argparse
import filecmp
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mirrorgui.units import KiB, format_size, parse_size
from tests.bench.copy import fresh_target, make_mixed
from tests.bench.peers import Qsd

LEAD_S = 0.5
"""The guest writes so long before the mirror begins."""

PATIENCE_S = 120.0

MODES = ("background", "write-blocking")


@dataclass(frozen=True, slots=True)
class Load:
    """What the guest does."""

    block: int
    depth: int
    rate: int = 0

    def __str__(self) -> str:
        speed = f"{self.rate}/s" if self.rate else "full speed"
        return f"{format_size(self.block).replace('.0', '')} qd{self.depth} {speed}"


LOADS = (
    Load(4 * KiB, 1, 1000),
    Load(64 * KiB, 1, 1000),
    Load(4 * KiB, 4),
    Load(64 * KiB, 4),
)


@dataclass(frozen=True, slots=True)
class Run:
    """What one run gave: requests a second, milliseconds, seconds; NaN where nothing was."""

    idle_iops: float
    idle_p50: float
    idle_p99: float
    copy_iops: float
    copy_p50: float
    copy_p99: float
    copy_max: float
    sync_iops: float
    sync_p50: float
    sync_p99: float
    ready_s: float
    converge_s: float


class Mirror(Protocol):
    """One program that serves guests and mirrors."""

    uri: str

    def start(self) -> float:
        """Begin the mirror; returns the wall clock of that moment."""

    def wait_ready(self) -> float:
        """Return the wall clock of READY."""

    def left(self) -> int:
        """Return how many bytes are left to copy."""

    def finish(self) -> None:
        """End the mirror softly: the target is a copy."""

    def close(self) -> None:
        """End the program."""


def _seconds(event: dict[str, Any]) -> float:
    stamp = event["timestamp"]
    return float(stamp["seconds"]) + float(stamp["microseconds"]) / 1e6


class Ours:
    """This application's engine, as ``mirrorgui run`` has it."""

    def __init__(self, source: Path, target: Path, folder: Path, mode: str) -> None:
        path = folder / "ours.sock"
        self.uri = f"nbd+unix:///disk?socket={path}"
        command = [sys.executable, "-m", "tests.bench.live_serve"]
        self._process = subprocess.Popen(
            [*command, str(source), str(target), str(path), mode],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._wait("SERVING")

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        return dict(json.loads(self._process.stdout.readline()))

    def _wait(self, name: str) -> dict[str, Any]:
        while True:
            message = self._read()
            if message.get("event") == name:
                return message

    def start(self) -> float:
        started = time.time()
        self._say("start")
        return started

    def wait_ready(self) -> float:
        return _seconds(self._wait("BLOCK_JOB_READY"))

    def left(self) -> int:
        self._say("left")
        while True:
            message = self._read()
            if "return" in message:
                return int(message["return"])

    def finish(self) -> None:
        self._say("cancel")
        self._wait("BLOCK_JOB_COMPLETED")

    def close(self) -> None:
        self._process.communicate("\n")
        assert self._process.returncode == 0


class Qemu:
    """qemu-storage-daemon with an NBD export of the mirrored node."""

    def __init__(self, source: Path, target: Path, folder: Path, mode: str) -> None:
        path = folder / "qemu.sock"
        self.uri = f"nbd+unix:///disk?socket={path}"
        self._mode = mode
        self._daemon = Qsd(folder)
        for name, image in (("src", source), ("dst", target)):
            self._daemon.execute(
                "blockdev-add",
                driver="raw",
                node_name=name,
                file={"driver": "file", "filename": str(image)},
            )
        self._daemon.execute("nbd-server-start", addr={"type": "unix", "data": {"path": str(path)}})
        self._daemon.execute(
            "block-export-add", type="nbd", id="e", node_name="src", name="disk", writable=True
        )

    def start(self) -> float:
        started = time.time()
        self._daemon.execute(
            "blockdev-mirror",
            job_id="m",
            device="src",
            target="dst",
            sync="full",
            copy_mode=self._mode,
        )
        return started

    def wait_ready(self) -> float:
        return _seconds(self._daemon.wait("BLOCK_JOB_READY"))

    def left(self) -> int:
        (job,) = self._daemon.execute("query-block-jobs")
        return int(job["len"]) - int(job["offset"])

    def finish(self) -> None:
        self._daemon.execute("block-job-cancel", device="m")
        self._daemon.wait("BLOCK_JOB_COMPLETED")

    def close(self) -> None:
        self._daemon.close()


PEERS = {"ours": Ours, "QEMU": Qemu}


class Latencies:
    """The requests of one run of fio: when each ended on the wall clock, and how long it took."""

    def __init__(self, log: Path) -> None:
        table = np.loadtxt(log, delimiter=",", usecols=(0, 1), dtype=np.int64, ndmin=2)
        self._ended_s, self._taken_ms = table[:, 0] / 1e3, table[:, 1] / 1e6

    def between(self, first_s: float, last_s: float) -> tuple[float, float, float, float]:
        """Return requests a second, median, 99th percentile and longest in milliseconds."""
        chosen = self._taken_ms[(self._ended_s >= first_s) & (self._ended_s < last_s)]
        if len(chosen) < 10:
            return (float("nan"),) * 4
        p50, p99, longest = np.percentile(chosen, (50, 99, 100))
        return len(chosen) / (last_s - first_s), float(p50), float(p99), float(longest)

    @property
    def first_s(self) -> float:
        return float(self._ended_s[0])

    @property
    def last_s(self) -> float:
        return float(self._ended_s[-1])


@contextmanager
def guest(uri: str, load: Load, size: int, seconds: float, log: Path) -> Iterator[None]:
    """Run fio while the block runs, and wait for its end."""
    command = [
        *("fio", "--name=guest", "--ioengine=nbd", f"--uri={uri}", "--rw=randwrite"),
        *(f"--bs={load.block}", f"--iodepth={load.depth}", f"--size={size}"),
        *("--time_based", f"--runtime={seconds}", "--norandommap", "--randseed=1"),
        *(f"--write_lat_log={log}", "--log_unix_epoch=1", "--output-format=terse"),
    ]
    if load.rate:
        command.append(f"--rate_iops={load.rate}")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=log.parent)
    try:
        yield
        if process.wait(PATIENCE_S):
            raise SystemExit(f"fio: exit status {process.returncode}")
    finally:
        process.kill()
        process.wait()


def measure(
    peer: type[Ours | Qemu], mode: str, load: Load, images: tuple[Path, Path], seconds: float
) -> Run:
    """Do one run, and compare the images."""
    source, target = images
    size = source.stat().st_size
    fresh_target(target, size)
    with tempfile.TemporaryDirectory(prefix="live-") as name:
        folder = Path(name)
        mirror: Mirror = peer(source, target, folder, mode)
        try:
            with guest(mirror.uri, load, size, seconds / 2, folder / "idle"):
                pass
            with guest(mirror.uri, load, size, seconds, folder / "busy"):
                time.sleep(LEAD_S)
                started = mirror.start()
            ended = time.time()
            ready = mirror.wait_ready()
            while mirror.left():
                time.sleep(0.01)
            converged = time.time()
            mirror.finish()
        finally:
            mirror.close()
        idle = Latencies(folder / "idle_clat.1.log")
        busy = Latencies(folder / "busy_clat.1.log")
    if not filecmp.cmp(source, target, shallow=False):
        raise SystemExit(f"{peer.__name__}: the images differ")
    copying = busy.between(started, min(ready, busy.last_s))
    return Run(
        *idle.between(idle.first_s + 0.2, idle.last_s)[:3],
        *copying,
        *busy.between(ready, busy.last_s)[:3],
        ready - started,
        max(converged - ended, 0.0),
    )


def median(runs: list[Run]) -> Run:
    """Return the median of each figure."""
    return Run(
        *(statistics.median(getattr(run, each.name) for run in runs) for each in fields(Run))
    )


_HEAD = (
    f"{'':22}{'idle':^24}|{'until READY':^44}|{'in sync':^24}|{'READY':>8}{'converge':>9}\n"
    f"{'':22}{'IOPS':>8}{'p50':>8}{'p99':>8}|{'IOPS':>8}{'kept':>6}{'p50':>8}{'p99':>8}{'max':>8}"
    f"{'':6}|{'IOPS':>8}{'p50':>8}{'p99':>8}|{'s':>8}{'s':>9}"
)


def report(name: str, run: Run) -> None:
    """Print one line of the table."""
    kept = run.copy_iops / run.idle_iops
    print(
        f"  {name:20}{run.idle_iops:8.0f}{run.idle_p50:8.2f}{run.idle_p99:8.2f}|"
        f"{run.copy_iops:8.0f}{kept:6.2f}{run.copy_p50:8.2f}{run.copy_p99:8.2f}{run.copy_max:8.1f}"
        f"{'':6}|{run.sync_iops:8.0f}{run.sync_p50:8.2f}{run.sync_p99:8.2f}|"
        f"{run.ready_s:8.2f}{run.converge_s:9.2f}",
        flush=True,
    )


def compare(ours: Run, theirs: Run) -> None:
    """Print ours divided by QEMU's."""
    kept = ours.copy_iops / ours.idle_iops / (theirs.copy_iops / theirs.idle_iops)
    print(
        f"  {'ours / QEMU':20}{ours.idle_iops / theirs.idle_iops:8.2f}"
        f"{ours.idle_p50 / theirs.idle_p50:8.2f}{ours.idle_p99 / theirs.idle_p99:8.2f}|"
        f"{ours.copy_iops / theirs.copy_iops:8.2f}{kept:6.2f}{ours.copy_p50 / theirs.copy_p50:8.2f}"
        f"{ours.copy_p99 / theirs.copy_p99:8.2f}{ours.copy_max / theirs.copy_max:8.2f}{'':6}|"
        f"{ours.sync_iops / theirs.sync_iops:8.2f}{ours.sync_p50 / theirs.sync_p50:8.2f}"
        f"{ours.sync_p99 / theirs.sync_p99:8.2f}|{ours.ready_s / theirs.ready_s:8.2f}"
        f"{ours.converge_s / max(theirs.converge_s, 0.01):9.2f}",
        flush=True,
    )


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dir", type=Path, metavar="DIR")
    parser.add_argument("--size", type=parse_size, default="2G")
    parser.add_argument("--seconds", type=float, default=6.0, help="of the guest's second run")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", default="", help="only the program whose name contains this")
    parser.add_argument("--mode", choices=MODES, help="only this copy mode")
    parser.add_argument("--load", default="", help="only loads whose description begins so")
    given = parser.parse_args()
    source, target = given.dir / "live-source.img", given.dir / "live-target.img"
    peers = {name: peer for name, peer in PEERS.items() if given.only in name}
    print(f"{os.cpu_count()} processors, {format_size(given.size)} in {given.dir}; milliseconds")
    print(_HEAD)
    try:
        make_mixed(source, given.size)
        for mode in [given.mode] if given.mode else MODES:
            for load in LOADS:
                if not str(load).startswith(given.load):
                    continue
                print(f"{load}, {mode}, load average {os.getloadavg()[0]:.1f}")
                found: dict[str, list[Run]] = {name: [] for name in peers}
                for _ in range(given.rounds):
                    for name, peer in peers.items():
                        run = measure(peer, mode, load, (source, target), given.seconds)
                        found[name].append(run)
                medians = {name: median(runs) for name, runs in found.items()}
                for name, run in medians.items():
                    report(name, run)
                if len(medians) == len(PEERS):
                    compare(medians["ours"], medians["QEMU"])
    finally:
        source.unlink(missing_ok=True)
        target.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
