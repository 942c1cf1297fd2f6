"""Keeps the computer awake (systemd-logind's inhibitor locks). Blocking; free of Qt."""

import logging
import select
import shutil
import subprocess

from mirrorgui.ui.i18n import tr

logger = logging.getLogger(__name__)

PROGRAM = "systemd-inhibit"
PATIENCE_S = 5.0
"""How long logind may take to grant the lock, and the program to end."""

_COMMAND = ("sh", "-c", "echo held; exec cat")
"""Runs once the lock is granted, says so, and ends with our pipe: also when we are killed."""


class WakeLock:
    """Holds off sleep and shutdown. One thread at a time may use it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def acquire(self) -> bool:
        """Hold the lock; False where nobody grants it. Nothing is left behind then."""
        program = shutil.which(PROGRAM)
        if program is None:
            logger.info("sleep is not prevented: there is no %s", PROGRAM)
            return False
        why = tr("A disk image is being mirrored")
        command = [program, "--what=sleep:shutdown", "--who=MirrorGUI", f"--why={why}"]
        pipe = subprocess.PIPE
        # In a session of its own: Ctrl-C in our terminal is not for it.
        self._process = subprocess.Popen(
            [*command, "--mode=block", *_COMMAND],
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            start_new_session=True,
        )
        output = self._process.stdout
        assert output is not None
        ready, _, _ = select.select([output], [], [], PATIENCE_S)
        if ready and output.readline():
            return True
        words = self.release()
        logger.info("sleep is not prevented: %s", words or "no answer")
        return False

    def release(self) -> str:
        """Let the computer sleep; return what the program had to complain about."""
        process, self._process = self._process, None
        if process is None:
            return ""
        try:
            _, words = process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            _, words = process.communicate()
        return words.decode(errors="replace").strip()
