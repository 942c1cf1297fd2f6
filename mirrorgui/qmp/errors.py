"""What a QMP command answers instead of a result: QEMU's error classes, with QEMU's texts."""

import enum

from mirrorgui.errors import InvalidInput, MirrorGUIError


class ErrorClass(enum.Enum):
    """The classes that qemu-storage-daemon has; nearly everything is a ``GenericError``."""

    GENERIC = "GenericError"
    COMMAND_NOT_FOUND = "CommandNotFound"
    DEVICE_NOT_ACTIVE = "DeviceNotActive"
    DEVICE_NOT_FOUND = "DeviceNotFound"


class QmpError(MirrorGUIError):
    """A command is refused, or failed; what it says of its effects is in its text.

    Attributes:
        desc: the text that the client gets, without QEMU's class.
        error_class: the class that programs may look at.
    """

    def __init__(self, desc: str, error_class: ErrorClass = ErrorClass.GENERIC) -> None:
        super().__init__(desc)
        self.desc = desc
        self.error_class = error_class

    def as_qmp(self) -> dict[str, str]:
        """Return the ``error`` member of a reply."""
        return {"class": self.error_class.value, "desc": self.desc}


def as_qmp_error(error: MirrorGUIError) -> QmpError:
    """Put an error of the engine into QEMU's words."""
    if isinstance(error, QmpError):
        return error
    if isinstance(error, InvalidInput) and error.reason.startswith("expects "):
        return QmpError(f"Parameter '{error.field}' {error.reason}")
    return QmpError(str(error))
