"""The options of a new image, with QEMU's names, defaults, limits and rules."""

from dataclasses import dataclass, replace

from mirrorgui.block.qcow2.features import Autoclear, Compatible, Incompatible
from mirrorgui.block.qcow2.header import COMPRESSION_TYPES, Header
from mirrorgui.block.qcow2.layout import (
    DEFAULT_CLUSTER_SIZE,
    MAX_CLUSTER_BITS,
    MIN_CLUSTER_BITS,
    MIN_EXTENDED_CLUSTER_BITS,
    SECTOR,
    Geometry,
)
from mirrorgui.errors import InvalidInput
from mirrorgui.units import align_up, is_power_of_two

PREALLOCATIONS = ("off", "metadata", "falloc", "full")

_VERSION_2_HEADER = 72
"""Length of its header in bytes."""

_NEEDS_VERSION_3 = "needs version 3"
_LONGEST = (1 << 63) - SECTOR
"""Longest disk in bytes: QEMU counts in signed numbers, and in sectors."""


@dataclass(frozen=True, slots=True)
class CreateOptions:
    """What ``qemu-img create -f qcow2 -o`` takes; sizes in bytes.

    Attributes:
        version: 2 (``compat=0.10``) or 3 (``compat=1.1``).
        cluster_size: a power of two from 512 bytes to 2 MiB.
        backing_file: name of the backing file as the image shall have it; empty for none.
        backing_format: its format; it has to be named, so that nobody ever guesses.
        lazy_refcounts: write refcounts late, under the dirty bit. Version 3.
        refcount_bits: 1, 2, 4, ... 64; in version 2 only 16.
        preallocation: ``metadata`` makes all tables, ``falloc`` and ``full`` reserve the storage
            for all data as well. Beside a backing file only with ``extended_l2``.
        extended_l2: clusters have 32 subclusters; they have to be 16 KiB or more. Version 3.
        data_file: name of a file for guest data as the image shall have it; empty for none.
        data_file_raw: that file is a raw image of the same content at any time.
        compression_type: ``zlib`` or (version 3) ``zstd``.
    """

    version: int = 3
    cluster_size: int = DEFAULT_CLUSTER_SIZE
    backing_file: str = ""
    backing_format: str = ""
    lazy_refcounts: bool = False
    refcount_bits: int = 16
    preallocation: str = "off"
    extended_l2: bool = False
    data_file: str = ""
    data_file_raw: bool = False
    compression_type: str = "zlib"

    @property
    def all_tables(self) -> bool:
        """Whether every L2 table is made: also where the data file stays a raw image."""
        return self.preallocation != "off" or self.data_file_raw

    def header(self, size: int) -> Header:
        """Check the options, and return the header that they ask for.

        Args:
            size: what a guest shall see, in bytes; rounded up to 512, as qemu-img does.

        Returns:
            The header, but for the places of its tables, which are 0.

        Raises:
            InvalidInput: an option is wrong, or cannot be together with another one.
        """
        self._check_values()
        self._check_backing_and_data()
        if self.version == 2:
            self._check_version_2()
        bits = self.cluster_size.bit_length() - 1
        if self.extended_l2 and bits < MIN_EXTENDED_CLUSTER_BITS:
            text = f"extended L2 entries need clusters of {1 << MIN_EXTENDED_CLUSTER_BITS} or more"
            raise InvalidInput("extended_l2", True, text)
        geometry = Geometry(bits, extended_l2=self.extended_l2)
        if size < 0:
            raise InvalidInput("size", size, "must not be negative")
        rounded = align_up(size, SECTOR)
        if rounded > min(geometry.max_size, _LONGEST):
            text = f"too large for clusters of {self.cluster_size} bytes, try larger ones"
            raise InvalidInput("size", size, text)
        header = Header(
            version=self.version,
            size=rounded,
            cluster_bits=bits,
            l1_entries=geometry.l1_entries(rounded),
            l1_offset=0,
            refcount_table_offset=0,
            refcount_table_clusters=0,
            backing_file=self.backing_file,
            backing_format=self.backing_format,
            data_file=self.data_file,
            incompatible=self._incompatible(),
            compatible=Compatible(Compatible.LAZY_REFCOUNTS * self.lazy_refcounts),
            autoclear=Autoclear(Autoclear.DATA_FILE_RAW * self.data_file_raw),
            refcount_order=self.refcount_bits.bit_length() - 1,
            compression_type=self.compression_type,
        )
        if self.version == 2:
            header = replace(header, header_length=_VERSION_2_HEADER)
        header.encode()  # tells whether the names fit
        return header

    def _check_values(self) -> None:
        if self.version not in (2, 3):
            raise InvalidInput("version", self.version, "must be 2 or 3")
        low, high = 1 << MIN_CLUSTER_BITS, 1 << MAX_CLUSTER_BITS
        if not is_power_of_two(self.cluster_size) or not low <= self.cluster_size <= high:
            text = f"must be a power of two between {low} and {high} (2 MiB)"
            raise InvalidInput("cluster_size", self.cluster_size, text)
        if not is_power_of_two(self.refcount_bits) or self.refcount_bits > 64:
            text = "must be a power of two, and at most 64"
            raise InvalidInput("refcount_bits", self.refcount_bits, text)
        for name, value, known in (
            ("preallocation", self.preallocation, PREALLOCATIONS),
            ("compression_type", self.compression_type, COMPRESSION_TYPES),
        ):
            if value not in known:
                raise InvalidInput(name, value, f"must be one of {', '.join(known)}")

    def _check_backing_and_data(self) -> None:
        if self.backing_file and not self.backing_format:
            text = "the format of the backing file has to be named too"
            raise InvalidInput("backing_file", self.backing_file, text)
        if self.backing_format and not self.backing_file:
            text = "a backing format cannot be used without a backing file"
            raise InvalidInput("backing_format", self.backing_format, text)
        if self.backing_file and self.preallocation != "off" and not self.extended_l2:
            text = "can be used together with a backing file only if extended_l2 is on"
            raise InvalidInput("preallocation", self.preallocation, text)
        if self.data_file_raw and not self.data_file:
            raise InvalidInput("data_file_raw", True, "needs a data file")
        if self.data_file_raw and self.backing_file:
            text = "cannot be used together with a backing file"
            raise InvalidInput("data_file_raw", True, text)

    def _check_version_2(self) -> None:
        if self.refcount_bits != 16:
            text = "other widths than 16 bits need version 3"
            raise InvalidInput("refcount_bits", self.refcount_bits, text)
        for name, wanted in (
            ("lazy_refcounts", self.lazy_refcounts),
            ("extended_l2", self.extended_l2),
            ("data_file", self.data_file),
        ):
            if wanted:
                raise InvalidInput(name, wanted, _NEEDS_VERSION_3)
        if self.compression_type != "zlib":
            raise InvalidInput("compression_type", self.compression_type, _NEEDS_VERSION_3)

    def _incompatible(self) -> Incompatible:
        return Incompatible(
            Incompatible.DATA_FILE * bool(self.data_file)
            | Incompatible.COMPRESSION * (self.compression_type != "zlib")
            | Incompatible.EXTENDED_L2 * self.extended_l2
        )
