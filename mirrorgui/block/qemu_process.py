"""The private ``qemu-nbd`` process of an image.

It gets a socket that listens already, as systemd would give it one, so nothing waits for it: we
connect, and are answered when the image is open, or cut off when it cannot be opened. It ends by
itself when its last connection does, which is also what becomes of it when we are killed.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

from mirrorgui.nbd.uri import NbdAddress
from mirrorgui.runtime import runtime_folder
from mirrorgui.units import KiB

PROGRAM = "qemu-nbd"
MODULES_PACKAGE = "qemu-block-extra"
"""Debian's name of the protocols that the program loads when asked."""

_END_S = 10.0
"""How long the process may take to write its last metadata when we are done with it."""

_KILL_S = 3.0
_OBITUARY_S = 1.0
"""Between the end of its connections and that of the process lies only its clean-up."""

_MAX_WORDS = 4 * KiB
"""Last bytes of what it said that are kept for a message."""

_PREFIX = "mirrorgui-nbd-"
_SETTLED_S = 60.0
"""A folder without an owner that is younger may be one that is being made."""

_START = 'export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@" 3<&0 0</dev/null'
"""The handing over of a socket that listens (sd_listen_fds(3)), which comes in as standard input.
Only a shell can name its process's number to the program that takes its place."""

_UNKNOWN = re.compile(r"Unknown (driver|protocol) '")


class QemuNbd:
    """One ``qemu-nbd`` behind a socket in a folder that only we can enter.

    Raises:
        OSError: it cannot be started. Nothing is left behind.
    """

    def __init__(self, command: list[str]) -> None:
        with contextlib.ExitStack() as undo:
            parent = runtime_folder().parent
            _remove_orphans(parent)
            self._folder = tempfile.mkdtemp(prefix=_PREFIX, dir=parent)
            undo.callback(shutil.rmtree, self._folder, ignore_errors=True)
            self._owned = _own(self._folder)
            undo.callback(os.close, self._owned)
            path = str(Path(self._folder) / "socket")
            # A file and not a pipe, which would have to be read all the time.
            self._words: IO[bytes] = undo.enter_context(tempfile.TemporaryFile())
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
                listening.bind(path)
                listening.listen()
                # In a session of its own: Ctrl-C in our terminal is not for it.
                self._process: subprocess.Popen[bytes] = subprocess.Popen(
                    ["/bin/sh", "-c", _START, "sh", *command],
                    stdin=listening.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=self._words,
                    start_new_session=True,
                )
            undo.pop_all()
        self.address = NbdAddress(socket_path=path)
        self._said = ""

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def end(self, *, at_once: bool = False) -> None:
        """Wait for its end, after a while by force, and clean up. Idempotent."""
        if at_once:
            self._process.terminate()
        for patience, go_on in (
            (_KILL_S if at_once else _END_S, self._process.terminate),
            (_KILL_S, self._process.kill),
        ):
            try:
                self._process.wait(patience)
                break
            except subprocess.TimeoutExpired:
                go_on()
        self._process.wait()
        self._said = self._said or self._tail()
        if not self._words.closed:
            self._words.close()
            shutil.rmtree(self._folder, ignore_errors=True)
            os.close(self._owned)

    def reason(self, image: str) -> str:
        """Say in its words why it did not open the image; empty when it said nothing."""
        text = self._said.replace(f"Failed to blk_new_open '{image}': ", "")
        text = text.replace(f"{PROGRAM}: ", "").strip()
        if _UNKNOWN.search(text):
            text += f". The package {MODULES_PACKAGE} brings what {PROGRAM} loads when it is needed"
        return text

    def obituary(self) -> str:
        """Say what became of it after its connections were lost."""
        try:
            code = self._process.wait(_OBITUARY_S)
        except subprocess.TimeoutExpired:
            return f"{PROGRAM} does not answer"
        how = f"with exit status {code}"
        if code < 0:
            how = f"by signal {-code}"
            with contextlib.suppress(ValueError):
                how = f"by {signal.Signals(-code).name}"
        said = " ".join((self._said or self._tail()).split())
        return f"{PROGRAM} was ended {how}" + (f": {said}" if said else "")

    def _tail(self) -> str:
        if self._words.closed:
            return ""
        length = self._words.seek(0, 2)
        self._words.seek(max(0, length - _MAX_WORDS))
        return self._words.read().decode(errors="replace")


# Whoever is killed leaves a folder behind. Its owner holds a lock on it for as long as it lives.


def _own(folder: str) -> int:
    """Lock a folder; return the descriptor that holds the lock."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    if not _lock(fd):  # somebody is looking at it; it is too young to be taken for an orphan
        os.close(fd)
        raise BlockingIOError(f"{folder} is locked")
    return fd


def _lock(fd: int) -> bool:
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove_orphans(parent: Path) -> None:
    """Remove the folders of processes like this one that were killed."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            status = folder.lstat()
            if status.st_uid == os.geteuid() and time.time() - status.st_mtime > _SETTLED_S:
                fd = _own(str(folder))
                try:
                    shutil.rmtree(folder, ignore_errors=True)
                finally:
                    os.close(fd)
