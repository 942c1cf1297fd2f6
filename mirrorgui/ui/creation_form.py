"""What the New mirror form asks of a file that it makes. Free of Qt."""

from dataclasses import dataclass

from mirrorgui.block.creation import TargetCreation
from mirrorgui.block.info import ImageInfo
from mirrorgui.mirror.options import SyncMode
from mirrorgui.ui.i18n import tr
from mirrorgui.units import KiB

FORMATS = ("raw", "qcow2", "vmdk", "vdi", "vhdx", "vpc", "qed")
"""Formats that an image can be said to have; others are recognised."""

NEW_FORMATS = ("raw", "qcow2")
"""Formats that are offered for a new file."""

CLUSTER_SIZES = tuple(1 << bits for bits in range(9, 22))
DEFAULT_CLUSTER_SIZE = 64 * KiB

_PREALLOCATIONS = {"raw": ("off", "falloc", "full"), "qcow2": ("off", "metadata", "falloc", "full")}


@dataclass(frozen=True, slots=True)
class CreationValues:
    """How a new file is made.

    Attributes:
        cluster_size: bytes, 0 for automatic.
        preallocation: in QEMU's words.
        lazy_refcounts: refcounts are written late.
    """

    cluster_size: int = 0
    preallocation: str = "off"
    lazy_refcounts: bool = False


def new_format(chosen: str | None, source: ImageInfo | None) -> str:
    """Return the format that a new file gets: the chosen one, or the source's."""
    return chosen or (source.format if source is not None else "raw")


def layers_below(sync: SyncMode, format: str, source: ImageInfo | None) -> list[ImageInfo]:
    """Return the images that will lie below a new file, nearest first."""
    if source is None or format != "qcow2" or sync is SyncMode.FULL:
        return []
    return source.chain if sync is SyncMode.NONE else source.chain[1:]


def preallocations(format: str, *, has_backing: bool) -> tuple[str, ...]:
    """Return what a new file can reserve; beside a backing file nothing."""
    return ("off",) if has_backing else _PREALLOCATIONS.get(format, ("off",))


def creation_of(values: CreationValues, format: str, *, has_backing: bool) -> TargetCreation:
    """Return what is asked of a new file, as far as its format can have it."""
    preallocation: str | None = values.preallocation
    if preallocation == "off" or preallocation not in preallocations(
        format, has_backing=has_backing
    ):
        preallocation = None
    if format != "qcow2":
        return TargetCreation(preallocation=preallocation)
    return TargetCreation(
        preallocation=preallocation,
        cluster_size=values.cluster_size or None,
        lazy_refcounts=values.lazy_refcounts or None,
    )


def values_of_creation(creation: TargetCreation) -> CreationValues:
    """Return the form that was filled in for it."""
    return CreationValues(
        cluster_size=creation.cluster_size or 0,
        preallocation=creation.preallocation or "off",
        lazy_refcounts=bool(creation.lazy_refcounts),
    )


def preallocation_label(preallocation: str) -> str:
    """Name a way to reserve space."""
    return {
        "off": tr("None, sparse"),
        "metadata": tr("Tables only (metadata)"),
        "falloc": tr("Reserve space (falloc)"),
        "full": tr("Write zeroes (full)"),
    }[preallocation]


def preallocation_text(preallocation: str, *, has_backing: bool) -> str:
    """Explain a way to reserve space in a line."""
    if has_backing:
        return tr("Beside a backing file the new file always grows with its data.")
    return {
        "off": tr("The file grows as data arrives."),
        "metadata": tr("All tables are made now; space is taken as data arrives."),
        "falloc": tr("Space is reserved now, so that it cannot run out later."),
        "full": tr("Zeroes are written now: slow, but possible on every filesystem."),
    }[preallocation]


def lazy_text() -> str:
    """Explain lazy refcounts in a line."""
    return tr("Faster; after a crash the image is repaired before it is written again.")
