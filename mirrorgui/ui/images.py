"""What can be said of the images of a mirror. Blocks; free of Qt."""

import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from mirrorgui.block.info import ImageInfo
from mirrorgui.errors import MirrorGUIError
from mirrorgui.ui.backend import Backend
from mirrorgui.ui.form_texts import info_line
from mirrorgui.ui.frame import Ends
from mirrorgui.ui.i18n import tr
from mirrorgui.ui.names import short_name

if TYPE_CHECKING:
    from mirrorgui.session import MirrorRequest


def free_space(specification: str) -> int | None:
    """Return the bytes free to this user where a file lies; None for what is no file.

    Raises:
        OSError: the folder cannot be asked.
    """
    path = Path(specification)
    if specification.startswith(("json:", "nbd")) or not path.parent.is_dir():
        return None
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):
        return None
    return shutil.disk_usage(path.parent).free


def describe(backend: Backend, request: "MirrorRequest", *, created: bool) -> Ends:
    """Say what both images are, in a few words each; blocking. Empty where it cannot be told."""
    source = _info(backend, request.source, request.source_format)
    target = _info(backend, request.target, request.target_format)
    target_line = info_line(target) if target is not None else ""
    if created:
        target_line = tr("{line}, new file", line=target_line) if target_line else tr("new file")
    return Ends(
        info_line(source) if source is not None else "",
        target_line,
        short_name(source.backing_filename) if source and source.backing_filename else "",
    )


def _info(backend: Backend, specification: str, image_format: str | None) -> ImageInfo | None:
    try:
        return backend.info(specification, image_format)
    except MirrorGUIError:
        return None
