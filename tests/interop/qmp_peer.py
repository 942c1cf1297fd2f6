"""A qemu-storage-daemon of the test's own, spoken to over QMP."""

import json
import select
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

TIMEOUT_S = 20.0

Event = tuple[str, dict[str, Any]]


class QmpError(Exception):
    """The daemon refused a command."""


class StorageDaemon:
    """Started with a QMP socket in a directory, ended with ``close``."""

    def __init__(self, directory: Path) -> None:
        path = directory / "qmp.sock"
        self._process = subprocess.Popen(
            [
                "qemu-storage-daemon",
                "--chardev",
                f"socket,id=qmp,path={path},server=on,wait=off",
                "--monitor",
                "chardev=qmp",
            ]
        )
        self._socket = socket.socket(socket.AF_UNIX)
        self._buffer = b""
        self.events: list[Event] = []
        self._connect(path)
        self._receive()  # the greeting
        self.execute("qmp_capabilities")

    def _connect(self, path: Path) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            try:
                self._socket.connect(str(path))
            except OSError:
                # There is nothing to wait for but the socket itself.
                assert self._process.poll() is None and time.monotonic() < deadline
                time.sleep(0.01)
            else:
                return

    def _receive(self, timeout: float = TIMEOUT_S) -> dict[str, Any] | None:
        """Return the next message, or None when none comes in time."""
        deadline = time.monotonic() + timeout
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._socket], [], [], left)[0]:
                return None
            data = self._socket.recv(65536)
            assert data, "the daemon has gone"
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        if "event" in message:
            self.events.append((message["event"], message["data"]))
        return message

    def execute(self, command: str, **arguments: Any) -> Any:
        """Send a command and return its result; underscores in names become hyphens."""
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        request = {"execute": command, "arguments": named}
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        while (message := self._receive()) is not None:
            if "return" in message:
                return message["return"]
            if "error" in message:
                raise QmpError(message["error"]["desc"])
        raise AssertionError(f"no answer to {command}")

    def wait_for(self, name: str, **fields: Any) -> None:
        """Wait until such an event has come (or has been there already)."""

        def is_there() -> bool:
            return any(
                event == name and fields.items() <= data.items() for event, data in self.events
            )

        while not is_there():
            assert self._receive() is not None, f"no {name} {fields}: {self.events}"

    def close(self) -> None:
        """End the daemon."""
        self._socket.close()
        self._process.terminate()
        self._process.wait(TIMEOUT_S)
