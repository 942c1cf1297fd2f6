"""Compressed clusters: decompressing them, and a small cache of what came out."""

import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable

from mirrorgui.errors import ImageRefused
from mirrorgui.units import MiB

_WINDOW_BITS = -12
"""Deflate without a header and with the window that QEMU writes: 4 KiB."""

_CACHE = 4 * MiB
"""Decompressed bytes that are kept: what neighbouring reads of several threads need."""


class DecompressionError(ValueError):
    """Compressed data is damaged."""


def inflate(data: bytes | bytearray, length: int) -> bytes:
    """Decompress deflate data to exactly ``length`` bytes.

    Raises:
        DecompressionError: it is damaged or shorter.
    """
    try:
        out = zlib.decompressobj(_WINDOW_BITS).decompress(data, length)
    except zlib.error as error:
        raise DecompressionError(str(error)) from error
    if len(out) != length:
        raise DecompressionError(f"{len(out)} bytes instead of {length}")
    return out


def zstd_decompressor(field: str, path: str) -> Callable[[bytes | bytearray, int], bytes]:
    """Return what decompresses zstd as ``inflate`` does deflate.

    Args:
        field: the option that named the image, for the refusal.
        path: the image.

    Raises:
        ImageRefused: the package ``zstandard`` is missing.
    """
    try:
        import zstandard
    except ImportError as error:
        raise ImageRefused(
            field,
            path,
            "its clusters may be compressed with zstd, which needs the Python package zstandard",
        ) from error

    def decompress(data: bytes | bytearray, length: int) -> bytes:
        # A frame need not say how long its content is, and zeroes follow it in its last sector.
        reader = zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=False)
        try:
            out = reader.read(length)
        except zstandard.ZstdError as error:
            raise DecompressionError(str(error)) from error
        if len(out) != length:
            raise DecompressionError(f"{len(out)} bytes instead of {length}")
        return out

    return decompress


class ClusterCache:
    """Decompressed clusters by their L2 entry, least recently used dropped first.

    An entry always means the same bytes: compressed clusters are never written here, and what
    replaces one is not compressed.

    Args:
        cluster_size: bytes of one.
    """

    def __init__(self, cluster_size: int) -> None:
        self._limit = max(_CACHE // cluster_size, 1)
        self._lock = threading.Lock()
        self._clusters: OrderedDict[int, bytes] = OrderedDict()

    def get(self, entry: int) -> bytes | None:
        """Return a cluster's bytes if they are here."""
        with self._lock:
            found = self._clusters.get(entry)
            if found is not None:
                self._clusters.move_to_end(entry)
            return found

    def put(self, entry: int, content: bytes) -> None:
        """Keep a cluster's bytes."""
        with self._lock:
            self._clusters[entry] = content
            while len(self._clusters) > self._limit:
                self._clusters.popitem(last=False)
