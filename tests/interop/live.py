"""Live mirrors for tests with real guests: in this process, or as the command in one of its own.

Waiting is always for something, always with a time-out, and a time-out's message shows the job.
"""

import asyncio
import contextlib
import filecmp
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mirrorgui.mirror.events import JobEvent
from mirrorgui.mirror.options import MirrorOptions
from mirrorgui.mirror.snapshot import JobSnapshot
from mirrorgui.session import ExportRequest, MirrorRequest, MirrorSession, WhenReady
from tests.nbd.support import wait_until

PATIENCE_S = 30.0
"""Longest wait for what must come; only a failing test waits so long."""

SOAK = os.environ.get("MIRRORGUI_SOAK") == "1"

T = TypeVar("T")


def pattern(length: int, seed: int = 1, offset: int = 0) -> bytes:
    """Bytes that tell their place and seed in every eight of them; ``offset`` is a multiple of 8.

    No word is zero.
    """
    first = offset // 8 + 1
    words = np.arange(first, first + length // 8 + 1, dtype=np.uint64) + np.uint64(seed << 40)
    return words.tobytes()[:length]


def make_image(path: Path, size: int, seed: int = 1) -> Path:
    path.write_bytes(pattern(size, seed))
    return path


def assert_same(a: Path, b: Path) -> None:
    """Compare two files; say where they differ."""
    if filecmp.cmp(a, b, shallow=False):
        return
    left, right = (np.fromfile(each, np.uint8) for each in (a, b))
    assert len(left) == len(right), f"{len(left)} and {len(right)} bytes"
    places = np.flatnonzero(left != right)
    chunks = sorted({int(place) >> 16 for place in places})
    raise AssertionError(
        f"{len(places)} bytes differ, from {places[0]} to {places[-1]}, in {len(chunks)} chunks of "
        f"64 KiB: {chunks[:20]}"
    )


def run(*command: str | Path, timeout_s: float = PATIENCE_S, status: int = 0) -> str:
    """Run a program to its end; its output, or a failure that shows it."""
    done = subprocess.run(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == status, f"{command}: exit status {done.returncode}\n{output}"
    return output


class LiveMirror:
    """A session in this process, on an event loop of its own thread.

    Every method may be called from the test's thread.
    """

    def __init__(self, source: str | Path, target: str | Path, socket_path: Path, **options: Any):
        self.uri = f"nbd+unix:///disk?socket={socket_path}"
        self._request = MirrorRequest(
            source=str(source),
            target=str(target),
            overwrite=True,
            export=ExportRequest(self.uri),
            when_ready=WhenReady.WAIT,
            options=MirrorOptions(**options),
        )
        self._started = threading.Event()
        self._changed = threading.Condition()
        self._events: list[JobEvent] = []
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self.session: MirrorSession
        self._thread = threading.Thread(target=self._run, name="live-mirror")

    def __enter__(self) -> "LiveMirror":
        self._thread.start()
        assert self._started.wait(PATIENCE_S)
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "the session does not close"

    def _run(self) -> None:
        asyncio.run(self._live())

    async def _live(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            self.session = await MirrorSession.open(self._request)
        except Exception as error:
            self._failure = error
            return
        finally:
            self._started.set()
        self.session.events.listen(self._note)
        try:
            await self._stop.wait()
        finally:
            await self.session.close()

    def _note(self, event: JobEvent) -> None:
        with self._changed:
            self._events.append(event)
            self._changed.notify_all()

    # What tests do.

    def do(self, verb: Callable[[MirrorSession], T]) -> T:
        """Call something on the session's loop."""

        async def call() -> T:
            return verb(self.session)

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(PATIENCE_S)

    def start(self) -> "LiveMirror":
        self.do(lambda session: session.start())
        return self

    def complete(self) -> None:
        self.do(lambda session: session.job.complete())

    def cancel(self, *, force: bool = False) -> None:
        self.do(lambda session: session.job.cancel(force=force))

    def snapshot(self) -> JobSnapshot:
        return self.do(lambda session: session.job.snapshot())

    def names(self) -> list[str]:
        """Return the names of the events so far."""
        with self._changed:
            return [event.name for event in self._events]

    def wait_event(self, name: str, *, timeout_s: float = PATIENCE_S) -> JobEvent:
        """Return the first event of that name, once there is one."""
        with self._changed:
            self._changed.wait_for(
                lambda: any(event.name == name for event in self._events), timeout_s
            )
            for event in self._events:
                if event.name == name:
                    return event
        raise AssertionError(f"no {name} within {timeout_s} s: {self.snapshot()}")

    def wait_ready(self) -> "LiveMirror":
        self.wait_event("BLOCK_JOB_READY")
        return self

    def wait_for(self, condition: Callable[[JobSnapshot], object], what: str) -> JobSnapshot:
        """Return the first snapshot for which a condition holds."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition(snapshot := self.snapshot()):
            assert time.monotonic() < deadline, f"{what}: {snapshot}"
            time.sleep(0.005)
        return snapshot

    def wait_end(self, *, timeout_s: float = PATIENCE_S) -> JobSnapshot:
        """Return the last snapshot when the job has concluded."""
        future = asyncio.run_coroutine_threadsafe(self.session.wait(), self._loop)
        try:
            return future.result(timeout_s)
        except TimeoutError:
            raise AssertionError(f"no end within {timeout_s} s: {self.snapshot()}") from None


class MirrorCommand:
    """``mirrorgui run`` with an export and JSON lines, as a process."""

    def __init__(self, source: str | Path, target: str | Path, socket_path: Path, *more: str):
        self.uri = f"nbd+unix:///disk?socket={socket_path}"
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "mirrorgui", "run", str(source), str(target)),
                *("--overwrite", "--export", self.uri, "--json", *more),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._changed = threading.Condition()
        self._events: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read, name="live-reader")
        self._reader.start()

    def __enter__(self) -> "MirrorCommand":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self._events.append(json.loads(line))
                self._changed.notify_all()
        with self._changed:
            self._events.append({"event": "EOF"})
            self._changed.notify_all()

    def wait_event(self, name: str) -> dict[str, Any]:
        """Return the first event of that name, once there is one."""

        def found() -> dict[str, Any] | None:
            return next((each for each in self._events if each["event"] in (name, "EOF")), None)

        with self._changed:
            self._changed.wait_for(found, PATIENCE_S)
            event = found()
        assert event is not None, f"no {name}: {self._events[-5:]}"
        if event["event"] != name:
            self.process.wait()
            assert self.process.stderr is not None
            raise AssertionError(f"ended without {name}: {self.process.stderr.read()}")
        return event

    def complete(self) -> None:
        self.process.send_signal(signal.SIGUSR1)

    def end(self) -> None:
        """Soft when READY, a cancellation before, and the end of serving afterwards."""
        self.process.send_signal(signal.SIGINT)

    def exit_status(self) -> int:
        """Wait for its end, which comes when the last guest has left."""
        return self.process.wait(PATIENCE_S)


class Guest:
    """A libnbd client in a process of its own (Debian's Python has the module)."""

    def __init__(self, uri: str, *contexts: str) -> None:
        script = Path(__file__).with_name("guest.py")
        self._process = subprocess.Popen(
            ["/usr/bin/python3", str(script), uri, *contexts],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._replies: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, name="live-guest")
        self._reader.start()
        try:
            self.size = int(self._reply()["size"])
        except BaseException:
            self.kill()
            raise

    def __enter__(self) -> "Guest":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()  # it says goodbye and ends
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        self.kill()

    def kill(self) -> None:
        """End it without a goodbye."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self._replies.append(json.loads(line))
                self._changed.notify_all()
        with self._changed:
            self._replies.append({"error": "the guest has ended"})
            self._changed.notify_all()

    def tell(self, what: str, **arguments: object) -> None:
        """Ask for something without waiting for it."""
        assert self._process.stdin is not None
        print(json.dumps({"do": what, **arguments}), file=self._process.stdin, flush=True)

    def _reply(self, timeout_s: float = PATIENCE_S) -> dict[str, Any]:
        with self._changed:
            assert self._changed.wait_for(lambda: self._replies, timeout_s), "the guest waits"
            reply = self._replies.pop(0)
        if "error" in reply:
            raise GuestError(reply["error"])
        return reply

    def answer(self, *, timeout_s: float = PATIENCE_S) -> Any:
        """Return the answer to what was told."""
        return self._reply(timeout_s)["return"]

    @property
    def waits(self) -> bool:
        """Whether the answer to what was told is still out."""
        with self._changed:
            return not self._replies

    def ask(self, what: str, **arguments: object) -> Any:
        self.tell(what, **arguments)
        return self.answer()

    def read(self, offset: int, length: int) -> bytes:
        return bytes.fromhex(self.ask("read", offset=offset, length=length))

    def write(self, offset: int, data: bytes) -> None:
        self.ask("write", offset=offset, data=data.hex())

    def zero(self, offset: int, length: int) -> None:
        self.ask("zero", offset=offset, length=length)

    def trim(self, offset: int, length: int) -> None:
        self.ask("trim", offset=offset, length=length)

    def flush(self) -> None:
        self.ask("flush")

    def start_load(self, kind: str, **arguments: object) -> None:
        """Let it write until ``stop_load``: ``counter`` or ``random``, see guest.py."""
        self.ask("load", kind=kind, **arguments)

    def load(self) -> dict[str, Any]:
        """Return what the load has done so far."""
        return dict(self.ask("status"))

    def stop_load(self) -> dict[str, Any]:
        return dict(self.ask("stop"))


class GuestError(AssertionError):
    """A request of a guest failed."""


class NbdKit:
    """An nbdkit server that can be slow, fail, hang, die and come back."""

    def __init__(self, folder: Path, *arguments: str | Path, name: str = "kit") -> None:
        self.socket_path = folder / f"{name}.sock"
        self.uri = f"nbd+unix:///?socket={self.socket_path}"
        self._arguments = [str(each) for each in arguments]
        self.process = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        self.socket_path.unlink(missing_ok=True)
        return start_server(
            ["nbdkit", "--foreground", "-U", str(self.socket_path), *self._arguments],
            self.socket_path,
        )

    def __enter__(self) -> "NbdKit":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def spec(self, **more: object) -> str:
        """Return how to name it with further options of ``blockdev-add``."""
        server = {"type": "unix", "path": str(self.socket_path)}
        return "json:" + json.dumps({"driver": "nbd", "server": server, "export": "", **more})

    def hang(self) -> None:
        """Answer nothing from now on."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def come_back(self) -> None:
        self.kill()
        self.process = self._start()


def start_server(command: Sequence[str], socket_path: Path) -> "subprocess.Popen[bytes]":
    """Start a server and return when it listens on its socket."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: _listens(socket_path) or process.poll() is not None)
        assert process.poll() is None, f"{command} has ended with {process.returncode}"
    except BaseException:
        process.kill()
        process.wait()
        raise
    return process


def _listens(path: Path) -> bool:
    # Connecting would count with servers that serve one client only.
    lines = Path("/proc/net/unix").read_text().splitlines()
    return any(line.endswith(f" {path}") and line.split()[3] == "00010000" for line in lines)


@contextmanager
def qemu_nbd(image: Path, socket_path: Path, *more: str) -> Iterator[str]:
    """Serve an image with qemu-nbd under the empty name; yields its URI."""
    process = start_server(
        ["qemu-nbd", "-t", "-f", "raw", "-e", "8", "-k", str(socket_path), *more, str(image)],
        socket_path,
    )
    try:
        yield f"nbd+unix:///?socket={socket_path}"
    finally:
        process.kill()
        process.wait()


def raw_connection(socket_path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(PATIENCE_S)
    connection.connect(str(socket_path))
    return connection
