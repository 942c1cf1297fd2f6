"""A new Debian in a folder: what a package needs beside its dependencies shows there."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

MIRROR = "http://deb.debian.org/debian"
PERSON = "joe"

MAKE_S = 400
INSTALL_S = 300

# What the tools of the distribution keep for themselves; no package put it there.
_KEPT_BY_APT = ("var/cache/apt", "var/cache/debconf", "var/lib/apt", "var/log", "var/lib/dpkg")


class CleanRoot:
    """A root folder with a minimal Debian, and a person in it."""

    def __init__(self, folder: Path, suite: str) -> None:
        """Make it; takes half a minute."""
        self.folder = folder
        self.suite = suite
        _run(["debootstrap", "--variant=minbase", suite, str(folder), MIRROR], MAKE_S)
        self.inside("useradd", "--create-home", PERSON)

    def inside(self, *command: str, timeout: float = INSTALL_S) -> str:
        """Run a command in it as root, and return what it printed."""
        environment = {"DEBIAN_FRONTEND": "noninteractive", "PATH": os.environ["PATH"]}
        return _run(["chroot", str(self.folder), *command], timeout, environment)

    def as_person(self, *command: str, timeout: float = 60) -> str:
        """Run a command in it as a person without rights, and return what it printed."""
        return _run(self._line(*command), timeout, {"PATH": os.environ["PATH"]})

    @contextlib.contextmanager
    def started(self, *command: str) -> Iterator[subprocess.Popen[bytes]]:
        """Have a person's program run for a while, on this machine's screen."""
        program = subprocess.Popen(self._line(*command), start_new_session=True)
        try:
            yield program
        finally:
            if program.poll() is None:
                os.killpg(program.pid, signal.SIGKILL)
            program.wait(30)

    def _line(self, *command: str) -> list[str]:
        home = f"/home/{PERSON}"
        told = [f"HOME={home}", "PATH=/usr/bin:/bin", "LANG=C.UTF-8"]
        told += [f"DISPLAY={os.environ['DISPLAY']}"] if "DISPLAY" in os.environ else []
        mount = 'mount -t proc proc "$0/proc" && exec chroot --userspec="$1" "$0" "${@:2}"'
        who = [str(self.folder), PERSON, "env", "-i", "-C", home, *told]
        return ["unshare", "--mount", "bash", "-c", mount, *who, *command]

    def home(self) -> Path:
        """Return the person's folder, as seen from outside."""
        return self.folder / "home" / PERSON

    def own(self, path: Path) -> None:
        """Give a file in the person's folder to them."""
        entry = next(
            line.split(":")
            for line in (self.folder / "etc" / "passwd").read_text().splitlines()
            if line.startswith(f"{PERSON}:")
        )
        os.chown(path, int(entry[2]), int(entry[3]))

    def files(self) -> set[str]:
        """List everything in it, but for what the tools of the distribution keep for themselves."""
        found = set()
        for top, folders, files in os.walk(self.folder):
            place = Path(top).relative_to(self.folder)
            if str(place).startswith((*_KEPT_BY_APT, "proc", "tmp", f"home/{PERSON}")):
                folders.clear()
                continue
            found |= {str(place / name) for name in (*folders, *files)}
        return found

    def remove(self) -> None:
        """Delete it."""
        shutil.rmtree(self.folder)


def _run(command: list[str], timeout: float, environment: dict[str, str] | None = None) -> str:
    ended = subprocess.run(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert ended.returncode == 0, f"{command}\n{ended.stdout}"
    return ended.stdout
