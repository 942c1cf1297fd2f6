"""The header of a qcow2 image: decoding, the checks that need no table, encoding.

From QEMU's docs/interop/qcow2.txt, offset and size in bytes, all numbers big-endian::

      0 4 magic "QFI" 0xfb              48 8 refcount table: offset
      4 4 version                       56 4 refcount table: clusters
      8 8 backing file name: offset     60 4 snapshots
     16 4 backing file name: length     64 8 snapshot table: offset
     20 4 cluster bits                  version 3 only:
     24 8 virtual size                  72 8 incompatible features
     32 4 encryption: 0, 1 AES, 2 LUKS  80 8 compatible features
     36 4 L1 table: entries             88 8 autoclear features
     40 8 L1 table: offset              96 4 refcount order
                                       100 4 header length
                                       104 1 compression type: 0 zlib, 1 zstd

Extensions follow, then the name of the backing file, all in the first cluster.
"""

import struct
from dataclasses import dataclass, field, replace

from mirrorgui.block.node import BlockNode
from mirrorgui.block.qcow2 import extensions as ext
from mirrorgui.block.qcow2.extensions import Extension, ExtensionError
from mirrorgui.block.qcow2.features import (
    NO_AUTOCLEAR,
    NO_COMPATIBLE,
    NO_INCOMPATIBLE,
    Autoclear,
    Compatible,
    Incompatible,
    decode_names,
    encode_names,
    unknown_incompatible,
)
from mirrorgui.block.qcow2.layout import (
    MAGIC,
    MAX_CLUSTER_BITS,
    MAX_L1_SIZE,
    MAX_REFCOUNT_ORDER,
    MAX_REFCOUNT_TABLE_SIZE,
    MAX_SNAPSHOTS,
    MIN_CLUSTER_BITS,
    MIN_EXTENDED_CLUSTER_BITS,
    Geometry,
)
from mirrorgui.errors import ImageError, ImageRefused, InvalidInput
from mirrorgui.units import align_up

_FIELDS = struct.Struct(">4sIQIIQIIQQIIQ")
_VERSION_3_FIELDS = struct.Struct(">QQQII")
_VERSION_2_LENGTH = 72
_VERSION_3_LENGTH = 104
_COMPRESSION_AT = 104
_WRITTEN_LENGTH = 112
"""Header length of an image that is created here: up to the compression type, padded."""
MAX_NAME = 1023
"""Longest name of a backing file in bytes."""
INCOMPATIBLE_AT = 72
"""Where the incompatible features stand in the file, to change one bit of them in place."""
COMPRESSION_TYPES = ("zlib", "zstd")


@dataclass(frozen=True, slots=True)
class Header:
    """What a header says; offsets and sizes in bytes.

    Attributes:
        version: 2 or 3.
        size: what a guest sees.
        cluster_bits: 9 to 21.
        l1_entries, l1_offset: the active L1 table.
        refcount_table_offset, refcount_table_clusters: the refcount table.
        snapshot_count, snapshots_offset: the snapshot table.
        crypt_method: 0 none, 1 AES, 2 LUKS.
        backing_file: name of the backing file; empty without.
        backing_format: name of its format; empty where the image does not say.
        data_file: name of the external data file; may be empty although there is one.
        incompatible, compatible, autoclear: feature bits, unknown ones included.
        refcount_order: refcounts are 1 << order bits wide.
        compression_type: ``zlib`` (deflate without a header) or ``zstd``.
        extensions: those that have no field here, in their order.
        header_length: 72 in version 2.
        more_fields: what stands behind the fields that are known here, up to ``header_length``.
    """

    version: int
    size: int
    cluster_bits: int
    l1_entries: int
    l1_offset: int
    refcount_table_offset: int
    refcount_table_clusters: int
    snapshot_count: int = 0
    snapshots_offset: int = 0
    crypt_method: int = 0
    backing_file: str = ""
    backing_format: str = ""
    data_file: str = ""
    incompatible: Incompatible = NO_INCOMPATIBLE
    compatible: Compatible = NO_COMPATIBLE
    autoclear: Autoclear = NO_AUTOCLEAR
    refcount_order: int = 4
    compression_type: str = "zlib"
    extensions: tuple[Extension, ...] = ()
    header_length: int = _WRITTEN_LENGTH
    more_fields: bytes = b""
    geometry: Geometry = field(init=False)
    """Follows from the fields above."""

    def __post_init__(self) -> None:
        geometry = Geometry(
            cluster_bits=self.cluster_bits,
            extended_l2=bool(self.incompatible & Incompatible.EXTENDED_L2),
            refcount_order=self.refcount_order,
            version=self.version,
            data_file=self.has_data_file,
        )
        object.__setattr__(self, "geometry", geometry)

    @property
    def cluster_size(self) -> int:
        """Bytes in a cluster."""
        return 1 << self.cluster_bits

    @property
    def encrypted(self) -> bool:
        """Whether the content is encrypted."""
        return self.crypt_method != 0

    @property
    def dirty(self) -> bool:
        """Whether refcounts may be wrong: it was not closed properly."""
        return bool(self.incompatible & Incompatible.DIRTY)

    @property
    def corrupt(self) -> bool:
        """Whether it was found damaged before."""
        return bool(self.incompatible & Incompatible.CORRUPT)

    @property
    def extended_l2(self) -> bool:
        """Whether clusters have subclusters."""
        return bool(self.incompatible & Incompatible.EXTENDED_L2)

    @property
    def has_data_file(self) -> bool:
        """Whether guest clusters stand in a file of their own."""
        return bool(self.incompatible & Incompatible.DATA_FILE)

    @property
    def data_file_raw(self) -> bool:
        """Whether the data file has to be a raw image of the same content at any time."""
        return self.has_data_file and bool(self.autoclear & Autoclear.DATA_FILE_RAW)

    @property
    def lazy_refcounts(self) -> bool:
        """Whether refcounts may be written late, under the dirty bit."""
        return bool(self.compatible & Compatible.LAZY_REFCOUNTS)

    def encode(self) -> bytes:
        """Return the first cluster of the file, zeroes behind what is said.

        Raises:
            InvalidInput: it does not fit into a cluster.
        """
        known = self._known_extensions()
        name = _to_bytes(self.backing_file)
        body = ext.encode_extensions([*known, *self.extensions])
        if self.version >= 3:  # optional: left out where a cluster has no room for it
            names = Extension(ext.FEATURE_NAMES, encode_names())
            named = ext.encode_extensions([*known, names, *self.extensions])
            if self.header_length + len(named) + len(name) <= self.cluster_size:
                body = named
        name_at = self.header_length + len(body)
        if len(name) > MAX_NAME or name_at + len(name) > self.cluster_size:
            raise InvalidInput(
                "backing_file",
                self.backing_file,
                f"the header with this name does not fit into {self.cluster_size} bytes, the "
                f"cluster size (a name has at most {MAX_NAME} bytes)",
            )
        head = self._encode_fields(name_at if name else 0, len(name)) + body + name
        return head + bytes(self.cluster_size - len(head))

    def _known_extensions(self) -> list[Extension]:
        strings = [
            (ext.BACKING_FORMAT, self.backing_format),
            (ext.DATA_FILE_NAME, self.data_file),
        ]
        return [Extension(kind, _to_bytes(text)) for kind, text in strings if text]

    def _encode_fields(self, name_at: int, name_length: int) -> bytes:
        head = _FIELDS.pack(
            MAGIC,
            self.version,
            name_at,
            name_length,
            self.cluster_bits,
            self.size,
            self.crypt_method,
            self.l1_entries,
            self.l1_offset,
            self.refcount_table_offset,
            self.refcount_table_clusters,
            self.snapshot_count,
            self.snapshots_offset,
        )
        if self.version < 3:
            return head
        head += _VERSION_3_FIELDS.pack(
            self.incompatible,
            self.compatible,
            self.autoclear,
            self.refcount_order,
            self.header_length,
        )
        compression = COMPRESSION_TYPES.index(self.compression_type)
        head += bytes([compression]) + bytes(_WRITTEN_LENGTH - _COMPRESSION_AT - 1)
        return (head + self.more_fields)[: self.header_length]


def read_header(file: BlockNode, field: str) -> Header:
    """Read and check the header of the image that ``file`` holds.

    Bits that say dirty, corrupt or encrypted are for the caller to judge.

    Args:
        file: the bytes of the image.
        field: the option that named the image, for refusals.

    Raises:
        BlockIOError: it cannot be read.
        ImageRefused: it needs a feature that is not known here.
        ImageError: it is damaged.
    """
    return _Decoder(file, field).decode()


class _Decoder:
    """One reading of a header; its fields are checked in the order in which they stand."""

    def __init__(self, file: BlockNode, field: str) -> None:
        self._file = file
        self._field = field
        self._head = b""
        self._names: dict[tuple[int, int], str] = {}
        self._compression = 0

    def decode(self) -> Header:
        fixed = self._read(_VERSION_2_LENGTH)
        fields = _FIELDS.unpack(fixed)
        magic, version, name_at, name_length, cluster_bits = fields[:5]
        if magic != MAGIC:
            raise self._error(0, f"{magic!r} is not the magic of qcow2")
        if version not in (2, 3):
            raise ImageRefused(
                self._field, self._file.name, f"version {version} of qcow2 is not known"
            )
        if not MIN_CLUSTER_BITS <= cluster_bits <= MAX_CLUSTER_BITS:
            raise self._error(
                20, f"{cluster_bits} cluster bits are not between 9 and 21 (512 bytes to 2 MiB)"
            )
        self._head = self._read(min(1 << cluster_bits, self._file.size))
        backing_file = self._backing_name(name_at, name_length, 1 << cluster_bits)
        header = Header(
            version=version,
            size=fields[5],
            cluster_bits=cluster_bits,
            l1_entries=fields[7],
            l1_offset=fields[8],
            refcount_table_offset=fields[9],
            refcount_table_clusters=fields[10],
            snapshot_count=fields[11],
            snapshots_offset=fields[12],
            crypt_method=fields[6],
            backing_file=backing_file,
            header_length=_VERSION_2_LENGTH,
        )
        if version >= 3:
            header = self._version_3(header)
        header = self._extensions(header, name_at)
        if header.version >= 3:
            self._check_features(header)
        self._check_fields(header)
        self._check_tables(header)
        return header

    def _version_3(self, header: Header) -> Header:
        if len(self._head) < _VERSION_3_LENGTH:
            raise self._error(_VERSION_2_LENGTH, "the file ends in the header")
        incompatible, compatible, autoclear, order, length = _VERSION_3_FIELDS.unpack_from(
            self._head, _VERSION_2_LENGTH
        )
        if length < _VERSION_3_LENGTH or length > len(self._head) or length % 8:
            raise self._error(
                100,
                f"a header length of {length} is not a multiple of 8 between "
                f"{_VERSION_3_LENGTH} and {len(self._head)}",
            )
        if order > MAX_REFCOUNT_ORDER:
            raise self._error(96, f"a refcount order of {order} is above {MAX_REFCOUNT_ORDER}")
        self._compression = self._head[_COMPRESSION_AT] if length > _COMPRESSION_AT else 0
        named = min(self._compression, len(COMPRESSION_TYPES) - 1)
        return replace(
            header,
            incompatible=Incompatible(incompatible),
            compatible=Compatible(compatible),
            autoclear=Autoclear(autoclear),
            refcount_order=order,
            compression_type=COMPRESSION_TYPES[named],
            header_length=length,
            more_fields=self._head[_WRITTEN_LENGTH:length],
        )

    def _backing_name(self, offset: int, length: int, cluster_size: int) -> str:
        if not offset:
            return ""
        if length > MAX_NAME or offset + length > min(cluster_size, self._file.size):
            raise self._error(
                8,
                f"the name of the backing file, {length} bytes at {offset}, is longer than "
                f"{MAX_NAME} bytes or not in the first cluster",
            )
        return self._head[offset : offset + length].decode("utf-8", "surrogateescape")

    def _extensions(self, header: Header, name_at: int) -> Header:
        start = header.header_length
        end = name_at if header.backing_file else len(self._head)
        if end < start:
            raise self._error(8, f"the name of the backing file at {end} is inside the header")
        try:
            found = ext.decode_extensions(self._head[:end], start)
        except ExtensionError as error:
            raise self._error(error.offset, str(error)) from error
        data = {each.type: each.data for each in reversed(found)}
        fields = (ext.BACKING_FORMAT, ext.DATA_FILE_NAME, ext.FEATURE_NAMES)
        self._names = decode_names(data.get(ext.FEATURE_NAMES, b""))
        return replace(
            header,
            backing_format=_to_text(data.get(ext.BACKING_FORMAT, b"")),
            data_file=_to_text(data.get(ext.DATA_FILE_NAME, b"")),
            extensions=tuple(each for each in found if each.type not in fields),
        )

    def _check_features(self, header: Header) -> None:
        unknown = unknown_incompatible(header.incompatible, self._names)
        if unknown:
            raise ImageRefused(
                self._field,
                self._file.name,
                f"it uses what this driver does not know: {', '.join(unknown)}",
            )
        other = bool(header.incompatible & Incompatible.COMPRESSION)
        if self._compression >= len(COMPRESSION_TYPES):
            raise ImageRefused(
                self._field,
                self._file.name,
                f"compression type {self._compression} is not known",
            )
        if other != bool(self._compression):
            raise self._error(
                _COMPRESSION_AT,
                f"compression type {self._compression} contradicts the compression type feature",
            )
        if header.extended_l2 and header.cluster_bits < MIN_EXTENDED_CLUSTER_BITS:
            raise self._error(
                20, f"extended L2 entries need clusters of 16 KiB, not {header.cluster_size} bytes"
            )

    def _check_fields(self, header: Header) -> None:
        if header.crypt_method > 2:
            raise ImageRefused(
                self._field,
                self._file.name,
                f"encryption method {header.crypt_method} is not known",
            )
        if header.l1_entries * 8 > MAX_L1_SIZE:
            raise self._error(
                36, f"an L1 table of {header.l1_entries} entries is longer than {MAX_L1_SIZE} bytes"
            )
        needed = header.geometry.l1_entries(header.size)
        if needed > header.l1_entries:
            raise self._error(
                36,
                f"the L1 table has {header.l1_entries} entries, but a disk of {header.size} bytes "
                f"needs {needed}",
            )
        if not header.refcount_table_clusters:
            raise self._error(56, "there is no refcount table")
        if header.refcount_table_clusters << header.cluster_bits > MAX_REFCOUNT_TABLE_SIZE:
            raise self._error(
                56,
                f"a refcount table of {header.refcount_table_clusters} clusters is longer than "
                f"{MAX_REFCOUNT_TABLE_SIZE} bytes",
            )
        if header.snapshot_count > MAX_SNAPSHOTS:
            raise self._error(
                60, f"{header.snapshot_count} snapshots are more than {MAX_SNAPSHOTS}"
            )

    def _check_tables(self, header: Header) -> None:
        """Check that the tables stand in the file, at whole clusters, apart from each other."""
        table_length = header.refcount_table_clusters << header.cluster_bits
        tables = [
            ("refcount table", 48, header.refcount_table_offset, table_length),
            ("L1 table", 40, header.l1_offset, header.l1_entries * 8),
        ]
        if header.snapshot_count:
            shortest = 40 * header.snapshot_count
            tables.append(("snapshot table", 64, header.snapshots_offset, shortest))
        taken = [(0, header.cluster_size, "header")]
        end = align_up(self._file.size, header.cluster_size)
        for name, at, offset, length in tables:
            if not length:
                continue
            if offset % header.cluster_size:
                raise self._error(at, f"the {name} at {offset} does not begin at a cluster")
            if offset + length > end:
                raise self._error(
                    at,
                    f"the {name}, {length} bytes at {offset}, is outside the file of "
                    f"{self._file.size} bytes",
                )
            for start, stop, other in taken:
                if offset < stop and start < offset + length:
                    raise self._error(at, f"the {name} at {offset} overlaps the {other}")
            taken.append((offset, align_up(offset + length, header.cluster_size), name))

    def _read(self, length: int) -> bytes:
        if self._file.size < length:
            raise self._error(0, f"the file of {self._file.size} bytes ends in the header")
        data = bytearray(length)
        self._file.read_into(0, data)
        return bytes(data)

    def _error(self, offset: int, reason: str) -> ImageError:
        return ImageError(self._field, self._file.name, offset, reason)


def _to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _to_text(data: bytes) -> str:
    return data.split(b"\0")[0].decode("utf-8", "surrogateescape")
