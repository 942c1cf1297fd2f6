"""What a person or a program asks for: a mirror's images, options and end."""

import enum
from dataclasses import dataclass, field

from mirrorgui.block.creation import TargetCreation, TargetMode
from mirrorgui.mirror.options import MirrorOptions


class WhenReady(enum.Enum):
    """What to do once the target is in sync."""

    WAIT = "wait"
    COMPLETE = "complete"
    CANCEL = "cancel"
    """Finish without switching."""


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """How the source is offered to guests while it is mirrored.

    Attributes:
        uri: where, as an NBD URI; its path is the export's name.
        read_only: guests may only read.
        allow_remote: a person has agreed that other machines can reach it.
    """

    uri: str
    read_only: bool = False
    allow_remote: bool = False


@dataclass(frozen=True, slots=True)
class MirrorRequest:
    """What a person or a program asks for.

    Attributes:
        source, target: a path, a device, a URI or ``json:{...}``.
        source_format: QEMU's name of the format; None recognises it.
        target_format: the same; for a new file None takes the source's.
        target_mode: whether the target is there or is made; None makes it when nothing is there.
        creation: how it is made.
        overwrite: the person agreed that an existing target's content is lost.
        writable: somebody in this process writes to the source through the session's drive.
        export: offer the source to guests; None does not.
        when_ready: what to do once in sync.
        options: the job's arguments.
    """

    source: str
    target: str
    source_format: str | None = None
    target_format: str | None = None
    target_mode: TargetMode | None = None
    creation: TargetCreation = field(default_factory=TargetCreation)
    overwrite: bool = False
    writable: bool = False
    export: ExportRequest | None = None
    when_ready: WhenReady = WhenReady.WAIT
    options: MirrorOptions = field(default_factory=MirrorOptions)

    @property
    def opens_writable(self) -> bool:
        """Whether the source is opened for writing: only when a guest may write to it."""
        return self.writable or (self.export is not None and not self.export.read_only)
