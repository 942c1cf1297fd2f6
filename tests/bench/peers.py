"""Other programs that copy an image, each as a function that runs it once."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Usage:
    """What one run took: seconds, and the largest resident set in bytes."""

    wall_s: float
    cpu_s: float
    peak: int


_SPAWNER = """
import json, os, sys, time
started = time.perf_counter()
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(pid, 0)
wall = time.perf_counter() - started
print(json.dumps([os.waitstatus_to_exitcode(status), wall, usage.ru_utime + usage.ru_stime,
                  usage.ru_maxrss * 1024]))
"""
"""A process takes over its parent's largest resident set when it is started, so the parent must be
a small one."""


def run(command: list[str]) -> Usage:
    """Run a command to its end and account for it alone."""
    program = shutil.which(command[0])
    if program is None:
        raise SystemExit(f"{command[0]} is not installed")
    spawner = [sys.executable, "-S", "-E", "-c", _SPAWNER, program, *command[1:]]
    # Without cached bytecode every start would compile the program anew.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        spawner, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment
    )
    code, wall, cpu, peak = json.loads(done.stdout.splitlines()[-1])
    if code:
        raise SystemExit(f"{command}: exit status {code}: {done.stderr}")
    return Usage(wall, cpu, peak)


class Qsd:
    """A qemu-storage-daemon and its QMP socket."""

    def __init__(self, folder: Path, *options: str) -> None:
        path = folder / "qsd.sock"
        path.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [
                "qemu-storage-daemon",
                "--chardev",
                f"socket,id=qmp,path={path},server=on,wait=off",
                "--monitor",
                "chardev=qmp",
                *options,
            ]
        )
        self._socket = socket.socket(socket.AF_UNIX)
        for _ in range(500):
            try:
                self._socket.connect(str(path))
                break
            except OSError:
                time.sleep(0.01)
        self._file = self._socket.makefile("rw", encoding="utf-8")
        self._read()
        self.execute("qmp_capabilities")

    def _read(self) -> dict[str, Any]:
        return dict(json.loads(self._file.readline()))

    def execute(self, command: str, **arguments: object) -> Any:
        """Run a command; events that come before its answer are dropped."""
        message = {"execute": command}
        if arguments:
            message["arguments"] = {k.replace("_", "-"): v for k, v in arguments.items()}  # type: ignore[assignment]
        self._file.write(json.dumps(message) + "\n")
        self._file.flush()
        while True:
            answer = self._read()
            if "error" in answer:
                raise SystemExit(f"{command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def wait(self, event: str) -> dict[str, Any]:
        """Return the next event of that name."""
        while True:
            message = self._read()
            if message.get("event") == event:
                return message

    def close(self) -> tuple[float, int]:
        """End it; returns its CPU seconds and its largest resident set in bytes."""
        self._file.write('{"execute": "quit"}\n')
        self._file.flush()
        _, _, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = 0
        self._file.close()
        self._socket.close()
        return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def qemu_mirror(source: Path, target: Path, *, sparse: bool) -> Usage:
    """QEMU's mirror in qemu-storage-daemon, from the start of the job to COMPLETED.

    The daemon's own start is not counted.
    """
    more = {"discard": "unmap", "detect-zeroes": "unmap"} if sparse else {}
    daemon = Qsd(target.parent)
    for name, path, options in (("src", source, {}), ("dst", target, more)):
        daemon.execute(
            "blockdev-add",
            driver="raw",
            node_name=name,
            file={"driver": "file", "filename": str(path), **options},
            **options,
        )
    started = time.perf_counter()
    daemon.execute("blockdev-mirror", job_id="m", device="src", target="dst", sync="full")
    daemon.wait("BLOCK_JOB_READY")
    daemon.execute("block-job-complete", device="m")
    daemon.wait("BLOCK_JOB_COMPLETED")
    wall = time.perf_counter() - started
    cpu, peak = daemon.close()
    return Usage(wall, cpu, peak)


def mirrorgui(source: Path, target: Path) -> Usage:
    """The command, with the interpreter's start."""
    return run([sys.executable, "-m", "mirrorgui", "run", str(source), str(target), "--overwrite"])


def in_process(source: Path, target: Path, *how: str) -> Usage:
    """The engine in a process of its own, from the job's creation to its end."""
    command = [sys.executable, "-m", "tests.bench.engine", str(source), str(target), *how]
    process = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    result = json.loads(process.stdout.splitlines()[-1])
    return Usage(result["wall"], result["cpu"], result["peak"])


Peer = Callable[[Path, Path], Usage]

PEERS: dict[str, Peer] = {
    "cp --sparse=auto": lambda s, t: run(["cp", "--sparse=auto", str(s), str(t)]),
    "dd bs=1M": lambda s, t: run(["dd", "bs=1M", f"if={s}", f"of={t}", "status=none"]),
    "qemu-img convert -n -W -m16": lambda s, t: run(
        ["qemu-img", "convert", "-n", "-W", "-m16", "-f", "raw", "-O", "raw", str(s), str(t)]
    ),
    "nbdcopy": lambda s, t: run(["nbdcopy", str(s), str(t)]),
    "QEMU mirror (default)": lambda s, t: qemu_mirror(s, t, sparse=False),
    "QEMU mirror (unmap, detect-zeroes)": lambda s, t: qemu_mirror(s, t, sparse=True),
}
"""What copies a source onto an existing sparse target of its size."""

OURS: dict[str, Peer] = {
    "mirrorgui run": mirrorgui,
    "engine, asyncio": in_process,
    "engine, in the window": lambda s, t: in_process(s, t, "--window"),
}
