"""Two programs that speak QMP, qemu-storage-daemon and ours, driven and recorded alike."""

import json
import os
import select
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.qmp.told import Told
from tests.running import command, environment

Message = dict[str, Any]

SOCKET = "qmp.sock"

PATIENCE_S = 30.0
"""How long anything may take before a test fails."""


class Connection:
    """A client of a monitor. Everything that was received is kept, in order."""

    def __init__(self, path: Path, *, negotiate: bool = True) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE_S)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._buffer = b""
        self._count = 0
        self._forgotten = 0
        self.ended = False
        self.told: Told | None = None
        """Everything that is said from now on must be as this tells."""
        self.messages: list[Message] = []
        self.greeting = self.receive()
        if negotiate:
            assert self.execute("qmp_capabilities") == {"return": {}}
            self.start_over()

    # Sending.

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def execute(self, name: str, arguments: Mapping[str, Any] | None = None, /, **more: Any) -> Any:
        """Send a command and return its whole reply, without the id.

        Arguments by keyword have underscores for hyphens.
        """
        given = dict(arguments or {}) | {key.replace("_", "-"): more[key] for key in more}
        self._count += 1
        request = {"execute": name, "arguments": given, "id": f"#{self._count}"}
        self.send(json.dumps(request).encode())
        answer = self.reply(f"#{self._count}")
        if self.told is not None and "return" in answer:
            self.told.require_answer(name, answer["return"])
        return answer

    def ok(self, name: str, arguments: Mapping[str, Any] | None = None, /, **more: Any) -> Any:
        """Send a command that is carried out, and return what it returns."""
        answer = self.execute(name, arguments, **more)
        assert "return" in answer, answer
        return answer["return"]

    def desc(self, name: str, arguments: Mapping[str, Any] | None = None, /, **more: Any) -> str:
        """Send a command that is refused, and return why."""
        answer = self.execute(name, arguments, **more)
        assert "error" in answer, answer
        return str(answer["error"]["desc"])

    # Receiving.

    def receive(self, timeout_s: float = PATIENCE_S) -> Message | None:
        """Return the next message; None when none comes in time, or the other side has gone."""
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if self.ended or left <= 0 or not select.select([self._socket], [], [], left)[0]:
                return None
            try:
                data = self._socket.recv(1 << 16)
            except ConnectionError:
                data = b""
            self.ended = not data
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: Message = json.loads(line)
        if self.told is not None and "event" in message:
            self.told.require_event(message)
        self.messages.append(message)
        return message

    def reply(self, wanted: object) -> Message:
        """Return the reply to the request of an id, without it."""
        while (message := self.receive()) is not None:
            if message.get("id") == wanted and "event" not in message:
                return {key: value for key, value in message.items() if key != "id"}
        raise AssertionError(f"no reply to {wanted}: {self.messages[-20:]}")

    def events(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the events so far, but for those that are to be forgotten."""
        found = [each for each in self.messages[self._forgotten :] if "event" in each]
        return [(message["event"], message["data"]) for message in found]

    def forget_events(self) -> None:
        """Wait for later events only from now on; they are compared all the same."""
        self._forgotten = len(self.messages)

    def start_over(self) -> None:
        """Forget everything that was said."""
        self.messages.clear()
        self._forgotten = 0

    def wait_for(self, name: str, count: int = 1, **fields: Any) -> dict[str, Any]:
        """Wait for an event, the ``count``th of that kind; returns its data."""

        def found() -> list[dict[str, Any]]:
            alike = [data for event, data in self.events() if event == name]
            return [data for data in alike if fields.items() <= data.items()]

        while len(found()) < count:
            message = self.receive()
            assert message is not None, f"no {name} {fields}: {self.events()}"
        return found()[count - 1]

    def wait_for_status(self, status: str, job: str = "job", count: int = 1) -> None:
        self.wait_for("JOB_STATUS_CHANGE", count, status=status, id=job)

    def until(self, holds: Callable[[], bool]) -> None:
        """Ask again and again until something holds that no event tells."""
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline, "it never came to be"
            time.sleep(0.01)

    def asked(self, name: str, arguments: Mapping[str, Any] | None = None, /, **more: Any) -> Any:
        """Send a command, return what it returns, and keep its reply from the comparison.

        For what depends on the moment; events that come meanwhile are compared.
        """
        answer = self.ok(name, arguments, **more)
        # Its reply is what came last.
        self.messages.pop()
        return answer

    def job(self, job: str = "job") -> dict[str, Any]:
        """Return how a job stands at this moment; not compared."""
        (found,) = [each for each in self.asked("query-block-jobs") if each["device"] == job]
        return dict(found)

    def close(self) -> None:
        self._socket.close()


class Peer(Connection):
    """A program with its own folder, which is where its relative paths begin."""

    def __init__(self, folder: Path, program: list[str], name: str) -> None:
        self.name = name
        self.folder = folder
        self.process = subprocess.Popen(
            program, cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True
        )
        path = folder / SOCKET
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                super().__init__(path)
            except AssertionError:
                self.end()
                raise
            except OSError:
                assert self.process.poll() is None, (
                    self.process.stderr and self.process.stderr.read()
                )
                assert time.monotonic() < deadline
                time.sleep(0.01)  # there is nothing to wait for but the socket itself
            else:
                return

    @property
    def is_ours(self) -> bool:
        return self.name == "ours"

    def another(self, *, negotiate: bool = True) -> Connection:
        """Return one more client, of a program that can have several."""
        client = Connection(self.folder / SOCKET, negotiate=negotiate)
        client.told = self.told
        return client

    def terminate(self) -> int:
        """Ask the program to end; returns its exit status."""
        self.process.terminate()
        return self.process.wait(PATIENCE_S)

    def end(self) -> str:
        """End the program whatever it does; returns what it said."""
        self.close()
        if self.process.poll() is None:
            self.process.terminate()
        try:
            _, said = self.process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            _, said = self.process.communicate()
            raise AssertionError(f"{self.name} did not end") from None
        return said

    # The work of a script.

    def image(self, name: str, size: int, content: bytes = b"") -> Path:
        """Make a raw image; returns its path."""
        path = self.folder / name
        path.write_bytes(content)
        os.truncate(path, size)
        return path

    def add(self, node: str, filename: str, **options: Any) -> None:
        """Add a node over a file."""
        self.ok("blockdev-add", driver="file", filename=filename, node_name=node, **options)

    def clear(self) -> None:
        """Take everything away that a script has left, and forget what was said."""
        for job in self.ok("query-jobs"):
            self._end_job(job["id"])
        for export in self.ok("query-block-exports"):
            self.execute("block-export-del", id=export["id"], mode="hard")
        self.until(lambda: not self.ok("query-block-exports"))
        self.execute("nbd-server-stop")
        names = [node["node-name"] for node in self.ok("query-named-block-nodes", flat=True)]
        while names:
            left = [
                name for name in names if "error" in self.execute("blockdev-del", node_name=name)
            ]
            present = {node["node-name"] for node in self.ok("query-named-block-nodes", flat=True)}
            left = [name for name in left if name in present]
            assert len(left) < len(names), f"{self.name} keeps {left}"
            names = left
        self.start_over()
        for path in self.folder.iterdir():
            if path.name != SOCKET:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _end_job(self, job: str) -> None:
        self.execute("job-cancel", id=job)

        def is_over() -> bool:
            found = [each for each in self.ok("query-jobs") if each["id"] == job]
            if found and found[0]["status"] == "concluded":
                self.execute("job-dismiss", id=job)
            elif found and found[0]["status"] == "pending":
                self.execute("job-finalize", id=job)
            return not found

        self.until(is_over)


def start_daemon(folder: Path) -> Peer:
    """Start qemu-storage-daemon."""
    chardev = f"socket,id=qmp,path={SOCKET},server=on,wait=off"
    program = ["qemu-storage-daemon", "--chardev", chardev, "--monitor", "chardev=qmp"]
    for _ in range(2):
        # The model's own fault: who comes while it starts is greeted, and seldom not answered.
        with suppress(AssertionError):
            return Peer(folder, program, "qemu-storage-daemon")
    return Peer(folder, program, "qemu-storage-daemon")


def start_ours(folder: Path) -> Peer:
    """Start ``mirrorgui serve``."""
    peer = Peer(folder, command("serve", "--qmp", f"unix:{SOCKET}"), "ours")
    peer.told = Told(peer.ok("query-qmp-schema"))
    peer.start_over()
    return peer


@contextmanager
def running(start: Callable[[Path], Peer], folder: Path) -> Iterator[Peer]:
    folder.mkdir(parents=True, exist_ok=True)
    peer = start(folder)
    try:
        yield peer
    finally:
        said = peer.end()
        assert "Traceback" not in said, said
