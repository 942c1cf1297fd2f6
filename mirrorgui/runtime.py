"""The private folder of this user that sockets are made in."""

import os
import stat
import tempfile
from pathlib import Path

from mirrorgui.errors import InvalidInput


def runtime_folder() -> Path:
    """Return the folder, which may not exist yet.

    It lies below ``XDG_RUNTIME_DIR`` where that is this user's own (a root shell may have kept
    somebody's environment), below the folder for temporary files otherwise.
    """
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    if base.startswith("/") and _is_private(Path(base)):
        return Path(base) / "mirrorgui"
    return Path(tempfile.gettempdir()) / f"mirrorgui-{os.geteuid()}"


def make_runtime_folder() -> Path:
    """Make the folder where it is missing, for this user alone, and return it.

    Raises:
        InvalidInput: with field ``export``; it cannot be made, or what is in its place is not a
            folder that only this user can enter. Nothing was changed.
    """
    folder = runtime_folder()
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise InvalidInput("export", folder, error.strerror or str(error)) from error
    if not _is_private(folder):
        raise InvalidInput("export", folder, "others can enter this folder, or it is a link")
    return folder


def free_socket_path() -> Path:
    """Return a path in the folder at which there is nothing."""
    folder = runtime_folder()
    number = 1
    while os.path.lexists(folder / f"{number}.sock"):
        number += 1
    return folder / f"{number}.sock"


def _is_private(folder: Path) -> bool:
    try:
        status = folder.lstat()
    except OSError:
        return False
    own = status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & 0o077
    return own and stat.S_ISDIR(status.st_mode)
