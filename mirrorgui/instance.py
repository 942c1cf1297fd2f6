"""One window for a person and a screen: a second start hands what it was given to the first.

A start that hands over is done before Qt would be loaded. Who holds the lock of a file is
the first; the kernel takes the lock back from who is killed, so no stale socket can mislead.
"""

import asyncio
import contextlib
import json
import logging
import re
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mirrorgui.errors import InvalidInput
from mirrorgui.runtime import make_runtime_folder

if sys.platform != "win32":
    import fcntl

logger = logging.getLogger(__name__)

PATIENCE_S = 5.0
"""How long the first window may take to answer: it may be starting, or busy with a dialog."""

_POLL_S = 0.05
_OK = b"ok\n"
_SCREENS = ("", "xcb", "wayland", "wayland-egl")


@dataclass(frozen=True, slots=True)
class Wish:
    """What a start was asked for.

    Attributes:
        sources: none, a source, or a source and a target.
        demo: the demonstration.
    """

    sources: tuple[str, ...] = ()
    demo: bool = False


Asked = Callable[[Wish], None]


class Claim:
    """Being the first window. Closed by ``close``, or by the process's end.

    Args:
        path: of the socket that others hand over to.
        lock: an open file whose lock is held.
    """

    def __init__(self, path: Path, lock: IO[bytes]) -> None:
        self._path = path
        self._lock = lock
        self._server: asyncio.Server | None = None

    async def serve(self, asked: Asked) -> None:
        """Call ``asked`` on the loop with what later starts were given.

        Raises:
            OSError: the socket cannot be made; later starts open windows of their own.
        """

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError, ValueError, TimeoutError):
                async with asyncio.timeout(PATIENCE_S):
                    wish = _read(await reader.readline())
                    writer.write(_OK)
                    await writer.drain()
                asked(wish)
            writer.close()

        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(talk, str(self._path))
        self._path.chmod(0o600)

    async def close(self) -> None:
        """Let another window be the first. Idempotent."""
        if self._server is not None:
            self._server.close()
            self._server = None
            with contextlib.suppress(OSError):
                self._path.unlink()
        self._lock.close()


def has_own_screen(environment: Mapping[str, str]) -> bool:
    """Say whether a window would open where a person sees those of other starts."""
    chosen = re.split("[:;]", environment.get("QT_QPA_PLATFORM", ""))[0]
    return sys.platform != "win32" and chosen in _SCREENS


def claim(wish: Wish, environment: Mapping[str, str]) -> Claim | bool:
    """Become the first window, or hand over to it.

    Returns:
        The claim; True when everything was handed over and nothing is left to do; False when this
        start has to stand alone, as the first one does not answer or there is no place to meet.
    """
    try:
        folder = make_runtime_folder()
        name = _name(environment)
        lock = (folder / f"{name}.lock").open("ab")
    except (InvalidInput, OSError) as error:
        logger.warning("a window of its own: %s", error)
        return False
    path = folder / f"{name}.sock"
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if _hand_over(path, wish, deadline):
                lock.close()
                return True
            time.sleep(_POLL_S)
        else:
            return Claim(path, lock)
    logger.warning("a window of its own: the first one does not answer")
    lock.close()
    return False


def _hand_over(path: Path, wish: Wish, deadline: float) -> bool:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as there:
            there.settimeout(max(deadline - time.monotonic(), _POLL_S))
            there.connect(str(path))
            there.sendall(_written(wish))
            return there.recv(len(_OK)) == _OK
    except OSError:
        return False


def _name(environment: Mapping[str, str]) -> str:
    screen = environment.get("WAYLAND_DISPLAY") or environment.get("DISPLAY") or "screen"
    return "window-" + re.sub(r"[^A-Za-z0-9]", "_", screen)


def _written(wish: Wish) -> bytes:
    sources = [_from_anywhere(each) for each in wish.sources]
    return json.dumps({"sources": sources, "demo": wish.demo}).encode() + b"\n"


def _from_anywhere(specification: str) -> str:
    """Return a path from the root: the first window was started in another folder."""
    if re.match(r"[a-z+]{2,}:", specification):
        return specification
    return str(Path(specification).absolute())


def _read(line: bytes) -> Wish:
    match json.loads(line):
        case {"sources": list(sources), "demo": bool(demo)}:
            return Wish(tuple(map(str, sources[:2])), demo)
    raise ValueError("not what a second start says")
