"""fio as a guest: several jobs that write whole regions in random order and verify them."""

import json
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mirrorgui.units import KiB, MiB

LIMIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Job:
    """One region of the image, every block of which is written once in a run.

    So a block that is found in an older state has no header of fio's, which it tells; it does not
    tell an older version of its own from a newer one.

    Attributes:
        offset, length: the region in bytes.
        block: size of a request in bytes.
        depth: requests in flight.
        iops: requests a second.
        rw: fio's name of the pattern.
        backlog: blocks after which written ones are read back; 0 does so when all are written.
    """

    offset: int
    length: int
    block: int
    depth: int
    iops: int
    rw: str = "randwrite"
    backlog: int = 0

    def section(self, number: int, *, slow: bool) -> list[str]:
        lines = [
            f"[job{number}]",
            f"offset={self.offset}",
            f"size={self.length}",
            f"bs={self.block}",
            f"iodepth={self.depth}",
            f"rw={self.rw}",
        ]
        if slow:
            lines.append(f"rate_iops={self.iops}")
        if self.backlog and slow:  # what only verifies leaves blocks out with it
            lines.append(f"verify_backlog={self.backlog}")
        return lines


JOBS = (
    Job(0, 16 * MiB, 4 * KiB, depth=16, iops=1600),
    Job(16 * MiB, 24 * MiB, 64 * KiB, depth=4, iops=150),
    Job(44 * MiB, 4 * MiB, 4 * KiB, depth=1, iops=400),
    Job(48 * MiB, 8 * MiB, 64 * KiB, depth=2, iops=60, backlog=32),
)
"""Together they write for about two and a half seconds, and then read back what they wrote."""

UNTOUCHED = ((40 * MiB, 4 * MiB), (56 * MiB, 8 * MiB))
SIZE = 64 * MiB


class Fio:
    """One run over all jobs, in a process group of its own.

    Args:
        where: ``uri=...`` of an export, or ``filename=...``.
        folder: for its files.
        seed: decides the order.
        slow: keep to the jobs' rates, and log the latency of each request.
        verify_only: write nothing, read everything back.
    """

    def __init__(
        self, where: str, folder: Path, seed: int, *, slow: bool = False, verify_only: bool = False
    ) -> None:
        self._folder = folder
        lines = [
            "[global]",
            # Jobs that are processes leave the group, and then neither stop nor end with it.
            "thread",
            "ioengine=nbd" if where.startswith("uri=") else "ioengine=psync",
            where,
            "verify=crc32c",
            "verify_fatal=1",
            "do_verify=1",
            f"randseed={seed}",
        ]
        if verify_only:
            lines.append("verify_only=1")
        if slow:
            lines += [f"write_lat_log={folder}/lat", "log_unix_epoch=1"]
        for number, job in enumerate(JOBS):
            lines += job.section(number, slow=slow)
        description = folder / "jobs.fio"
        description.write_text("\n".join(lines) + "\n")
        self._process = subprocess.Popen(
            ["fio", "--output-format=json", str(description)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
            start_new_session=True,
        )

    def __enter__(self) -> "Fio":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def stop(self) -> None:
        """Let it send nothing more, until ``go_on``."""
        os.killpg(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.killpg(self._process.pid, signal.SIGCONT)

    def finish(self) -> dict[str, Any]:
        """Wait for its end, which must be a good one."""
        output, _ = self._process.communicate(timeout=LIMIT_S)
        assert self._process.returncode == 0, output
        report = json.loads(output[output.index("{") :])
        for job in report["jobs"]:
            assert job["error"] == 0, output
        return dict(report)

    def slowest_s(self, first_s: float, last_s: float) -> float:
        """Return the longest request that ended between two moments of the wall clock."""
        slowest_ns = 0
        for log in self._folder.glob("lat_clat.*.log"):
            for line in log.read_text().splitlines():
                ended_ms, taken_ns, *_ = line.split(",")
                if first_s <= int(ended_ms) / 1000 <= last_s:
                    slowest_ns = max(slowest_ns, int(taken_ns))
        return slowest_ns / 1e9


def run_fio(where: str, folder: Path, seed: int, *, verify_only: bool = False) -> None:
    with Fio(where, folder, seed, verify_only=verify_only) as fio:
        fio.finish()
