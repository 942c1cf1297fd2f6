"""The options of a qcow2 node beside its children, by QEMU's names and rules."""

from dataclasses import dataclass

from mirrorgui.block.options import Options
from mirrorgui.block.qcow2.header import Header
from mirrorgui.errors import InvalidInput
from mirrorgui.units import is_power_of_two

_LEVELS = ("none", "constant", "cached", "all")
_AREAS = (
    "main-header",
    "active-l1",
    "active-l2",
    "refcount-table",
    "refcount-block",
    "snapshot-table",
    "inactive-l1",
    "bitmap-directory",
)
_MIN_CACHE_ENTRY = 512
_MAX_INTERVAL_S = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Qcow2Options:
    """What ``blockdev-add`` may say of a qcow2 node; ``None`` where it says nothing.

    Attributes:
        lazy_refcounts: write refcounts late, under the dirty bit; by default as the image says.
        l2_cache_size: bytes of L2 tables that are kept in memory.
        refcount_cache_size: bytes of refcount blocks that are kept in memory.
        pass_discard: a guest's discards are passed on to the file, so that it becomes smaller.
        pass_freed: clusters that are freed otherwise are passed on likewise.
    """

    lazy_refcounts: bool | None = None
    l2_cache_size: int | None = None
    refcount_cache_size: int | None = None
    pass_discard: bool = True
    pass_freed: bool = False


def take_options(options: Options, header: Header) -> Qcow2Options:
    """Take a qcow2 node's options.

    Args:
        options: what is left when the children have been taken.
        header: the image's; some options need what it has.

    Raises:
        InvalidInput: one is wrong, or asks for what is not there.
    """
    _take_overlap_check(options)
    _refuse_encrypt(options)
    _take_l2_cache_entry_size(options, header)
    _take_cache_clean_interval(options)
    l2_cache, refcount_cache = _take_cache_sizes(options)
    pass_discard = options.take("pass-discard-request", bool, True)
    options.take("pass-discard-snapshot", bool, True)  # kept either way: no snapshot is deleted
    return Qcow2Options(
        lazy_refcounts=_take_lazy_refcounts(options, header),
        l2_cache_size=l2_cache,
        refcount_cache_size=refcount_cache,
        pass_discard=pass_discard,
        pass_freed=options.take("pass-discard-other", bool, False),
    )


def _take_lazy_refcounts(options: Options, header: Header) -> bool | None:
    if "lazy-refcounts" not in options:
        return None
    wanted = options.take("lazy-refcounts", bool)
    if wanted and header.version < 3:
        raise InvalidInput(
            options.name_of("lazy-refcounts"),
            wanted,
            "Lazy refcounts require a qcow2 image with at least qemu 1.1 compatibility level",
        )
    return wanted


def _take_cache_sizes(options: Options) -> tuple[int | None, int | None]:
    """Take the caches' sizes; what one of them leaves of a common one is the other's."""
    common, l2_cache, refcount_cache = (
        options.take_size(name, 0) if name in options else None
        for name in ("cache-size", "l2-cache-size", "refcount-cache-size")
    )
    if common is None:
        return l2_cache, refcount_cache
    name = options.name_of("cache-size")
    if l2_cache is not None and refcount_cache is not None:
        raise InvalidInput(
            name,
            common,
            "cache-size, l2-cache-size and refcount-cache-size may not be set at the same time",
        )
    for part, size in (("l2-cache-size", l2_cache), ("refcount-cache-size", refcount_cache)):
        if size is not None and size > common:
            raise InvalidInput(options.name_of(part), size, f"{part} may not exceed cache-size")
    if l2_cache is not None:
        return l2_cache, common - l2_cache
    if refcount_cache is not None:
        return common - refcount_cache, refcount_cache
    return common, None


def _take_l2_cache_entry_size(options: Options, header: Header) -> None:
    size = options.take_size("l2-cache-entry-size", header.cluster_size)
    if not _MIN_CACHE_ENTRY <= size <= header.cluster_size or not is_power_of_two(size):
        raise InvalidInput(
            options.name_of("l2-cache-entry-size"),
            size,
            f"must be a power of two between {_MIN_CACHE_ENTRY} and the cluster size "
            f"({header.cluster_size})",
        )
    if size != header.cluster_size:
        text = f"not supported: tables are read and kept whole ({header.cluster_size} bytes)"
        raise InvalidInput(options.name_of("l2-cache-entry-size"), size, text)


def _take_cache_clean_interval(options: Options) -> None:
    name = "cache-clean-interval"
    interval = options.take_size(name, 0)
    if interval > _MAX_INTERVAL_S:
        raise InvalidInput(options.name_of(name), interval, "Cache clean interval too big")
    if interval:
        text = "not supported: tables are kept until others need their place"
        raise InvalidInput(options.name_of(name), interval, text)


def _take_overlap_check(options: Options) -> None:
    """Take what has to be checked before writing.

    Whatever is asked for, all areas but one are checked: where they stand is in memory. The L2
    tables of snapshots would have to be read for that, so nobody is promised to have them checked.
    """
    name, last = "overlap-check", "inactive-l2"
    if not options.is_object(name):
        is_checked = options.take_choice(name, _LEVELS, "cached") == "all"
    else:
        areas = Options(options.take_tree(name), options.name_of(name))
        whole = areas.take_choice("template", _LEVELS, "cached") == "all"
        is_checked = areas.take(last, bool, whole)
        for area in _AREAS:
            areas.take(area, bool, False)
        areas.finish()
    if is_checked:
        text = "not supported: the L2 tables of snapshots are not checked for"
        raise InvalidInput(options.name_of(name), last, text)


def _refuse_encrypt(options: Options) -> None:
    name = "encrypt"
    if name in options:
        text = "encrypted qcow2 images are not opened"
        raise InvalidInput(options.name_of(name), options.take_tree(name), text)
