"""Choosing files, without a loop of their own."""

import errno
import logging
from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QFileDialog, QMessageBox, QWidget

from mirrorgui.ui.i18n import tr

logger = logging.getLogger(__name__)


def image_filters() -> list[str]:
    """Return the kinds of files that a file dialog offers as images."""
    return [
        tr("Disk images ({globs})", globs="*.img *.raw *.qcow2 *.qcow *.iso *.vmdk *.vdi *.vhdx"),
        tr("All files (*)"),
    ]


def choose_file(
    parent: QWidget, title: str, chosen: Callable[[str], None], *, folder: str, new: bool = False
) -> QFileDialog:
    """Open a file dialog; ``chosen`` gets the path once one was chosen.

    Args:
        parent: the window it belongs to.
        title: what is chosen.
        chosen: gets the path; is not called when the person changes their mind.
        folder: where it begins.
        new: a name for a file that is still to be made; an existing one is not asked about here.
    """
    dialog = QFileDialog(parent, title, folder)
    dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    dialog.setNameFilters(image_filters())
    dialog.setOption(QFileDialog.Option.DontConfirmOverwrite)
    if new:
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.setFileMode(QFileDialog.FileMode.AnyFile)
    else:
        dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
    dialog.fileSelected.connect(chosen)
    dialog.open()
    return dialog


def save_text(
    parent: QWidget, title: str, name: str, kind: str, write: Callable[[Path], None]
) -> QFileDialog:
    """Open a dialog for a file to write, and write it; a failure is shown, not raised.

    Args:
        parent: the window it belongs to.
        title: what is saved.
        name: the name it begins with.
        kind: a file dialog's filter.
        write: writes the file at the path that was chosen.
    """
    dialog = QFileDialog(parent, title, name, kind)
    dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)

    def save(path: str) -> None:
        try:
            write(Path(path))
        except OSError as error:
            logger.warning("could not save path=%s error=%s", path, error.strerror)
            _say_failure(parent, path, error)

    dialog.fileSelected.connect(save)
    dialog.open()
    return dialog


def _say_failure(parent: QWidget, path: str, error: OSError) -> None:
    box = QMessageBox(parent)
    box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    box.setIcon(QMessageBox.Icon.Warning)
    box.setText(tr("Cannot write {path}: {reason}.", path=path, reason=error.strerror))
    box.addButton(tr("Close"), QMessageBox.ButtonRole.RejectRole)
    box.open()


def save_picture(parent: QWidget, picture: QImage, name: str) -> QFileDialog:
    """Open a dialog for a picture to write, and write it as PNG."""

    def write(path: Path) -> None:
        target = path if path.suffix else path.with_suffix(".png")
        if not picture.save(str(target)):
            raise OSError(errno.EIO, tr("the picture could not be written"))

    return save_text(parent, tr("Save picture"), name, tr("Pictures (*.png)"), write)
