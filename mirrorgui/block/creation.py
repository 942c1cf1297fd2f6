"""How a target that does not exist yet is made: the options of ``qemu-img create -o``."""

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, TypeVar

from mirrorgui.errors import InvalidInput
from mirrorgui.units import parse_size

if TYPE_CHECKING:
    from mirrorgui.block.naming import Named
    from mirrorgui.block.qcow2.create_options import CreateOptions

_T = TypeVar("_T")

FIELD = "target-options"

_WORDS = {
    **dict.fromkeys(("on", "yes", "true", "y"), True),
    **dict.fromkeys(("off", "no", "false", "n"), False),
}
_VERSIONS = {"0.10": 2, "v2": 2, "1.1": 3, "v3": 3}


class TargetMode(enum.Enum):
    """Whether a target is there or is made, in the words of ``drive-mirror``."""

    EXISTING = "existing"
    """Use what is there, and what it names as its backing file."""
    ABSOLUTE_PATHS = "absolute-paths"
    """Make it, with the backing file that the sync mode asks for, by its whole name."""


@dataclass(frozen=True, slots=True)
class TargetCreation:
    """What is asked of a new target; ``None`` and empty names leave it to QEMU's defaults.

    Attributes:
        preallocation: ``off``, ``metadata`` (qcow2), ``falloc`` or ``full``.
        cluster_size: in bytes. This and all below is of qcow2 only.
        version: 2 or 3: ``compat``.
        lazy_refcounts: write refcounts late, under the dirty bit.
        refcount_bits: width of a refcount.
        extended_l2: clusters have subclusters.
        compression_type: ``zlib`` or ``zstd``.
        data_file: name of a file for the guest's data.
        data_file_raw: that file is a raw image of the same content.
        backing_file: name of the backing file; by default that which the sync mode asks for.
        backing_format: its format: ``backing_fmt``.
    """

    preallocation: str | None = None
    cluster_size: int | None = None
    version: int | None = None
    lazy_refcounts: bool | None = None
    refcount_bits: int | None = None
    extended_l2: bool | None = None
    compression_type: str | None = None
    data_file: str | None = None
    data_file_raw: bool | None = None
    backing_file: str | None = None
    backing_format: str | None = None

    @property
    def given(self) -> dict[str, object]:
        """What was asked for, by the names of the attributes."""
        values = ((each.name, getattr(self, each.name)) for each in fields(self))
        return {name: value for name, value in values if value is not None}

    def for_qcow2(self, below: "Named | None") -> "CreateOptions":
        """Return the options of a new qcow2 image.

        Args:
            below: its backing file, unless another one was asked for.
        """
        # Only for those who need it: it brings numpy.
        from mirrorgui.block.qcow2.create_options import CreateOptions

        default = CreateOptions()
        file, format = self.backing_file, self.backing_format
        if below is not None and file is None:
            file, format = below.filename, below.format
        return CreateOptions(
            version=_chosen(self.version, default.version),
            cluster_size=_chosen(self.cluster_size, default.cluster_size),
            backing_file=_chosen(file, default.backing_file),
            backing_format=_chosen(format, default.backing_format),
            lazy_refcounts=_chosen(self.lazy_refcounts, default.lazy_refcounts),
            refcount_bits=_chosen(self.refcount_bits, default.refcount_bits),
            preallocation=_chosen(self.preallocation, default.preallocation),
            extended_l2=_chosen(self.extended_l2, default.extended_l2),
            data_file=_chosen(self.data_file, default.data_file),
            data_file_raw=_chosen(self.data_file_raw, default.data_file_raw),
            compression_type=_chosen(self.compression_type, default.compression_type),
        )

    def refuse_for(self, format: str, *, known: tuple[str, ...] = ()) -> None:
        """Refuse what was asked for and a format cannot have.

        Raises:
            InvalidInput: naming the first option.
        """
        for name, value in self.given.items():
            if name not in known:
                raise InvalidInput(name, value, f"is no option of {format} images")


def parse_creation(text: str) -> TargetCreation:
    """Read options as ``qemu-img create -o`` takes them: ``cluster_size=64K,compat=1.1``.

    Raises:
        InvalidInput: an option is unknown, or its value makes no sense.
    """
    asked = TargetCreation()
    for name, value in _pairs(text):
        if name not in _OPTIONS:
            known = ", ".join(_OPTIONS)
            raise InvalidInput(FIELD, name, f"Unknown option; known are {known}")
        try:
            asked = _OPTIONS[name](asked, value)
        except ValueError as error:
            raise InvalidInput(FIELD, f"{name}={value}", str(error)) from None
    return asked


def _chosen(given: _T | None, default: _T) -> _T:
    return default if given is None else given


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    """Split at commas; two of them are one that belongs to a value."""
    for part in text.replace(",,", "\0").split(","):
        name, has_value, value = part.replace("\0", ",").partition("=")
        if name or has_value:
            yield name.strip(), value if has_value else "on"


def _read_bool(text: str) -> bool:
    if text not in _WORDS:
        raise ValueError("must be on or off")
    return _WORDS[text]


def _read_version(text: str) -> int:
    if text not in _VERSIONS:
        raise ValueError("must be 0.10 or 1.1")
    return _VERSIONS[text]


def _read_number(text: str) -> int:
    if not text.isdecimal():
        raise ValueError("must be a number")
    return int(text)


_OPTIONS: dict[str, Callable[[TargetCreation, str], TargetCreation]] = {
    "preallocation": lambda asked, text: replace(asked, preallocation=text),
    "cluster_size": lambda asked, text: replace(asked, cluster_size=parse_size(text)),
    "compat": lambda asked, text: replace(asked, version=_read_version(text)),
    "lazy_refcounts": lambda asked, text: replace(asked, lazy_refcounts=_read_bool(text)),
    "refcount_bits": lambda asked, text: replace(asked, refcount_bits=_read_number(text)),
    "extended_l2": lambda asked, text: replace(asked, extended_l2=_read_bool(text)),
    "compression_type": lambda asked, text: replace(asked, compression_type=text),
    "data_file": lambda asked, text: replace(asked, data_file=text),
    "data_file_raw": lambda asked, text: replace(asked, data_file_raw=_read_bool(text)),
    "backing_file": lambda asked, text: replace(asked, backing_file=text),
    "backing_fmt": lambda asked, text: replace(asked, backing_format=text),
}
"""QEMU's name of an option -> what reads its value into what is asked for."""
