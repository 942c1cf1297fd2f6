"""The command, run for real or inside the test, and looks at what must not have changed."""

import gc
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mirrorgui import cli

ROOT = Path(__file__).parents[1]

PATIENCE_S = 30.0
"""How long anything may take before a test fails."""

NOBODY = 65534

_COMPILED = tempfile.TemporaryDirectory(prefix="mirrorgui-pyc-")
"""Where the command finds its modules compiled from the second start on, as installed ones are."""


def environment() -> dict[str, str]:
    """Where the command finds itself, and nothing that changes what it says."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MIRRORGUI")}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": _COMPILED.name}


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "mirrorgui", *map(str, arguments)]


def mirrorgui(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command to its end. No traceback, ever."""
    told = {"capture_output": True, "text": True, "env": environment(), **options}
    ended = subprocess.run(command(*arguments), timeout=PATIENCE_S, check=False, **told)
    assert "Traceback" not in (ended.stderr or "")
    return ended


def inside(*arguments: object) -> int:
    """Carry out the command in this process; returns its exit status."""
    handlers = {
        number: signal.getsignal(number)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCONT, signal.SIGUSR1)
    }
    try:
        return cli.main([str(argument) for argument in arguments])
    except SystemExit as end:
        assert isinstance(end.code, int)
        return end.code
    finally:
        gc.unfreeze()  # a process of its own would have ended now
        for number, handler in handlers.items():
            signal.signal(number, handler)


def last_line(text: str) -> str:
    return text.rstrip("\n").rpartition("\n")[2]


def blkdebug(path: Path | str, *rules: dict[str, object], states: object = None) -> str:
    """An image behind a node that injects errors."""
    image = {"driver": "file", "filename": str(path)}
    node: dict[str, object] = {"driver": "blkdebug", "image": image, "inject-error": list(rules)}
    if states is not None:
        node["set-state"] = states
    return "json:" + json.dumps(node)


class Mirror:
    """``mirrorgui run --json``, running, with its events as they come."""

    def __init__(self, *arguments: object, **options: Any) -> None:
        self.process = subprocess.Popen(
            command("run", "--json", *arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
            **options,
        )
        self.lines: list[dict[str, Any]] = []
        self.stderr = ""
        self._came = threading.Condition()
        self._ended = False
        self._threads = [
            threading.Thread(target=self._read_events),
            threading.Thread(target=self._read_errors),
        ]
        for thread in self._threads:
            thread.start()

    def _read_events(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._came:
                self.lines.append(json.loads(line))
                self._came.notify_all()
        with self._came:
            self._ended = True
            self._came.notify_all()

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._came:
                self.stderr += line
                self._came.notify_all()

    def wait_for(self, name: str, count: int = 1, **data: object) -> dict[str, Any]:
        """Wait for an event of a name with these fields, the ``count``th; return its fields."""

        def found() -> list[dict[str, Any]]:
            alike = [line["data"] for line in self.lines if line["event"] == name]
            return [each for each in alike if data.items() <= each.items()]

        with self._came:
            self._came.wait_for(lambda: len(found()) >= count or self._ended, PATIENCE_S)
            events = found()
        assert len(events) >= count, f"no {name} {data} in {self.lines}\n{self.stderr}"
        return events[count - 1]

    def wait_for_text(self, text: str) -> None:
        """Wait until people are told something."""
        with self._came:
            came = self._came.wait_for(lambda: text in self.stderr, PATIENCE_S)
        assert came, f"no {text!r} in {self.stderr!r}"

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        """Wait for its end; returns the exit status."""
        status = self.process.wait(PATIENCE_S)
        for thread in self._threads:
            thread.join()
        assert "Traceback" not in self.stderr
        return status

    def names(self) -> list[str]:
        return [line["event"] for line in self.lines if line["event"] != "PROGRESS"]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for thread in self._threads:
            thread.join()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


@contextmanager
def mirroring(*arguments: object, **options: Any) -> Iterator[Mirror]:
    mirror = Mirror(*arguments, **options)
    try:
        yield mirror
    finally:
        mirror.close()


def fingerprint(*folders: Path) -> dict[str, object]:
    """Names, kinds, lengths, times and content of everything below some folders."""
    found: dict[str, object] = {}
    for folder in folders:
        for path in (folder, *sorted(folder.rglob("*"))):
            status = path.lstat()
            is_file = path.is_file() and not path.is_symlink()
            content = hashlib.sha256(path.read_bytes()).hexdigest() if is_file else ""
            found[str(path)] = (status.st_mode, status.st_size, status.st_mtime_ns, content)
    return found


def same(a: Path | str, b: Path | str) -> bool:
    """Compare as ``cmp`` does, byte by byte, the lengths included."""
    return subprocess.run(["cmp", "--", a, b], capture_output=True, check=False).returncode == 0


@contextmanager
def as_nobody() -> Iterator[None]:
    """Lose root's power over files for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@contextmanager
def background(*arguments: object, ready: Callable[[], bool]) -> Iterator[subprocess.Popen[bytes]]:
    """A peer that runs while the block does, from when ``ready`` says so."""
    process = subprocess.Popen([str(argument) for argument in arguments])
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not ready():
            assert process.poll() is None, "the peer ended"
            assert time.monotonic() < deadline, "the peer does not begin"
            time.sleep(0.01)  # it tells by a file, for which nobody can wait
        yield process
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
