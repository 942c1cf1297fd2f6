"""What ``info`` tells of a qcow2 image beside its sizes, under the names of ``qemu-img info``."""

from mirrorgui.block.node import BlockNode
from mirrorgui.block.qcow2.bitmap_directory import AUTO, IN_USE, read_bitmap_directory
from mirrorgui.block.qcow2.header import Header
from mirrorgui.block.qcow2.snapshots import Snapshot, read_snapshots

_BITMAP_FLAGS = ((IN_USE, "in-use"), (AUTO, "auto"))


def format_specific(file: BlockNode, header: Header, field: str) -> dict[str, object]:
    """Return the member ``format-specific`` of ``qemu-img info``.

    Raises:
        BlockIOError: it cannot be read.
        ImageError: the bitmap directory is damaged.
    """
    data: dict[str, object] = {
        "compat": "0.10" if header.version < 3 else "1.1",
        "compression-type": header.compression_type,
    }
    if header.version >= 3:
        data["lazy-refcounts"] = header.lazy_refcounts
    data["refcount-bits"] = 1 << header.refcount_order
    if header.version >= 3:
        bitmaps = _bitmaps(file, header, field)
        if bitmaps:
            data["bitmaps"] = bitmaps
        if header.has_data_file:
            if header.data_file:
                data["data-file"] = header.data_file
            data["data-file-raw"] = header.data_file_raw
        data["corrupt"] = header.corrupt
        data["extended-l2"] = header.extended_l2
    if header.encrypted:
        data["encrypt"] = {"format": "aes" if header.crypt_method == 1 else "luks"}
    return {"type": "qcow2", "data": data}


def snapshots(file: BlockNode, header: Header, field: str) -> list[dict[str, object]]:
    """Return the member ``snapshots`` of ``qemu-img info``.

    Raises:
        BlockIOError: it cannot be read.
        ImageError: the table is damaged.
    """
    return [_snapshot(each) for each in read_snapshots(file, header, field).snapshots]


def _snapshot(snapshot: Snapshot) -> dict[str, object]:
    told: dict[str, object] = {
        "id": snapshot.id,
        "name": snapshot.name,
        "vm-state-size": snapshot.vm_state_size,
        "date-sec": snapshot.date_s,
        "date-nsec": snapshot.date_ns,
        "vm-clock-sec": snapshot.vm_clock_ns // 10**9,
        "vm-clock-nsec": snapshot.vm_clock_ns % 10**9,
    }
    if snapshot.icount is not None:
        told["icount"] = snapshot.icount
    return told


def _bitmaps(file: BlockNode, header: Header, field: str) -> list[dict[str, object]]:
    return [
        {
            "name": each.name,
            "granularity": each.granularity,
            "flags": [name for flag, name in _BITMAP_FLAGS if each.flags & flag],
        }
        for each in read_bitmap_directory(file, header, field).tables
    ]
