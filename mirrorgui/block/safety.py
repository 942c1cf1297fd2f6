"""What must hold before a byte of a target is written.

The dialog asks by name while a person types; whoever starts a job asks again with the identities of
the open nodes just before the first write, because names may have changed hands in between.
"""

import errno
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mirrorgui.block.devices import BlockDevice
from mirrorgui.block.findings import Finding, Severity, refuse, refuse_if_unsafe
from mirrorgui.block.identity import ImageIdentity, Kind, identify_node, identify_path
from mirrorgui.block.mounts import NO_HOLES_TYPES
from mirrorgui.block.node import BlockNode
from mirrorgui.block.open import How, open_image
from mirrorgui.block.overlap import check_overlap
from mirrorgui.block.safety_texts import exact_size, two_sizes, when
from mirrorgui.block.spec import Spec, local_path
from mirrorgui.block.storage import Place, disks_of, in_use_sentence, place_of, uses_of
from mirrorgui.errors import ImageRefused
from mirrorgui.units import GiB, format_size

__all__ = [
    "Finding",
    "Severity",
    "check_nodes",
    "check_overwriting",
    "check_pair",
    "check_paths",
    "check_unchanged",
    "erase_text",
    "refuse_if_unsafe",
]

_FAT_LIMIT = 4 * GiB - 1
"""Longest file of a FAT file system in bytes."""


def check_paths(
    source: Spec,
    target: Spec,
    *,
    source_format: str | None = None,
    target_format: str | None = None,
) -> list[Finding]:
    """Check two images by their names, without opening either for writing.

    Args:
        source: the image to mirror.
        target: where to, also a file that does not exist yet.
        source_format: QEMU's name of the format; recognised by default.
        target_format: likewise.

    Returns:
        As ``check_pair``; an image that cannot be used at all is a finding as well, of code
        ``unusable``.

    Raises:
        InvalidInput: an option or a format is wrong.
    """
    found: list[Finding] = []
    images: list[ImageIdentity] = []
    for field, spec, name in (("source", source, source_format), ("target", target, target_format)):
        try:
            images.append(_identify_and_open(spec, field, name))
        except ImageRefused as refusal:
            graver = list(_check_device(spec)) if field == "target" else []
            unusable = Finding(Severity.REFUSE, "unusable", field, refusal.reason)
            found += graver or [unusable]
    return check_pair(*images) if len(images) == 2 and not found else found


def check_nodes(source: BlockNode, target: BlockNode) -> list[Finding]:
    """Check two open nodes, through their descriptors: for the moment before the first write."""
    return check_pair(identify_node(source), identify_node(target, writing=True))


def check_overwriting(source: BlockNode, target: BlockNode) -> list[Finding]:
    """Check only what would destroy data that nobody has chosen to lose. The images are open.

    The target may stand on the source: what is written to it does not change what is below.

    Returns:
        Findings that forbid a start: the target is the source, something that the source needs, or
        something that the system uses.
    """
    ends = identify_node(source), identify_node(target)
    found = [*check_overlap(*ends, may_stand_on_source=True), *_check_in_use(*ends)]
    return [one for one in found if one.severity is Severity.REFUSE]


def _identify_and_open(spec: Spec, field: str, name: str | None) -> ImageIdentity:
    """Identify an image, and see that a driver opens it."""
    writing = field == "target"
    image = identify_path(spec, field, format=name, writing=writing, may_be_missing=writing)
    if image.kind not in (Kind.FILE, Kind.DEVICE):
        return image
    if writing and not os.access(image.path, os.W_OK):
        reason = os.strerror(errno.EACCES)
        raise ImageRefused(field, image.name, f"Cannot open {image.name} for writing: {reason}.")
    node = open_image(spec, format=name, how=How(field, read_only=True, force_share=True))
    try:
        return replace(image, size=node.size)
    finally:
        node.close()


def check_pair(
    source: ImageIdentity, target: ImageIdentity, *, may_stand_on_source: bool = False
) -> list[Finding]:
    """Check whether one image may be mirrored onto another.

    Args:
        source: from ``identify_path`` or ``identify_node``.
        target: likewise.
        may_stand_on_source: the target may have the source in its backing chain, as it has where
            only new writes are mirrored.

    Returns:
        What was found, the gravest first. ``target-larger`` is a warning here; a job that needs
        equal sizes refuses it itself.
    """
    same = list(check_overlap(source, target, may_stand_on_source=may_stand_on_source))
    found = same or [
        *_check_chains(source, target),
        *_check_in_use(source, target),
        *_check_size(source, target),
        *_check_new_file(target),
        *_check_content(target),
        *_check_space(source, target),
        *_check_surroundings(source, target),
    ]
    order = list(Severity)
    return sorted(found, key=lambda finding: order.index(finding.severity))


def check_unchanged(before: ImageIdentity, now: ImageIdentity, field: str) -> list[Finding]:
    """Check that a name still leads to what was chosen.

    Args:
        before: what was chosen.
        now: what the name leads to at this moment.
        field: ``source`` or ``target``.
    """
    if before.same_as(now):
        return []
    what = "device" if before.kind is Kind.DEVICE else "file"
    text = f"The {what} chosen before is gone. Choose the {field} again."
    return [Finding(Severity.REFUSE, "identity-changed", field, text)]


def _check_chains(source: ImageIdentity, target: ImageIdentity) -> Iterator[Finding]:
    if source.chain_error:
        yield refuse("no-backing-file", source.chain_error, "source")
    if target.chain_error:
        text = f"{target.chain_error} The switch needs it."
        yield Finding(Severity.WARN, "no-backing-file", "target", text)


def _check_in_use(source: ImageIdentity, target: ImageIdentity) -> Iterator[Finding]:
    if source.in_use:
        yield refuse("source-in-use", source.in_use, "source")
    elif source.place is not None:
        outside = uses_of(source.place)
        if outside:
            text = f"{source.name} is {outside[0].text}. What is written there is not tracked."
            yield Finding(Severity.WARN, "source-mounted", "source", text)
    if target.in_use:
        yield refuse("target-in-use", target.in_use)
    if target.place is None:
        return
    uses = uses_of(target.place)
    if target.kind is Kind.DEVICE and any(use.system for use in uses):
        yield _system_device(target.name)
    elif uses or target.claimed:
        yield refuse("target-in-use", in_use_sentence(target.name, uses))
    if target.device is not None and target.device.read_only:
        yield refuse("target-read-only", f"{target.name} is write-protected.")
    if target.data_file is not None and target.data_file.is_device:
        uses = uses_of(target.data_file)
        if any(use.system for use in uses):
            yield _system_device(target.data_name)
        elif uses:
            yield refuse("target-in-use", in_use_sentence(target.data_name, uses))


def _check_device(spec: Spec) -> Iterator[Finding]:
    """Say of a device that cannot even be opened whether it is the system's, which is graver."""
    path = local_path(spec)
    if path is None or not Path(path).is_block_device():
        return
    if any(use.system for use in uses_of(place_of(Path(path).stat()))):
        yield _system_device(path)


def _system_device(name: str) -> Finding:
    text = f"{name} holds this computer's system. MirrorGUI will not write to it."
    return refuse("system-device", text)


def _check_size(source: ImageIdentity, target: ImageIdentity) -> Iterator[Finding]:
    if source.size is None or target.size is None:
        return
    missing = source.size - target.size
    if missing > 0:
        needed, there = two_sizes(source.size, target.size)
        yield refuse(
            "target-too-small",
            f"Target is {exact_size(missing)} too small ({needed} needed, {there} there).",
        )
    elif missing < 0:
        text = f"Target is {exact_size(-missing)} larger. The rest stays unchanged."
        yield Finding(Severity.WARN, "target-larger", "target", text)


def _check_new_file(target: ImageIdentity) -> Iterator[Finding]:
    if target.kind is not Kind.MISSING:
        return
    folder = Path(target.path).parent
    if not folder.is_dir():
        yield refuse("no-folder", f"The folder {folder} does not exist.")
    elif not os.access(folder, os.W_OK | os.X_OK):
        yield refuse("folder-not-writable", f"Cannot create files in {folder}.")


def _check_content(target: ImageIdentity) -> Iterator[Finding]:
    if target.kind is Kind.FILE and not target.is_empty:
        changed = when(target.modified_ns / 1e9)
        text = f"Overwrite {target.label} ({format_size(target.length)}, changed {changed})"
        text += f" and its data file {target.data_name}" if target.data_name else ""
        text += f". {'Their' if target.data_name else 'Its'} content will be lost."
        yield Finding(Severity.CONFIRM, "overwrite", "target", text)
    elif target.kind is Kind.DEVICE and target.device is not None:
        yield Finding(Severity.CONFIRM, "erase-device", "target", erase_text(target.device))


def erase_text(device: BlockDevice) -> str:
    """Say what is lost when a device is written over."""
    model = device.model or device.path
    serial = f", serial {device.serial}" if device.serial else ""
    text = f"All data on {model}, {format_size(device.size)}{serial} ({device.path}) will be lost"
    if not device.partitions:
        return f"{text}."
    count = len(device.partitions)
    labels = ", ".join(part.label or part.path for part in device.partitions)
    return f"{text}: {count} partition{'s' if count > 1 else ''}: {labels}."


def _check_space(source: ImageIdentity, target: ImageIdentity) -> Iterator[Finding]:
    """Warn when the file system of a file that will grow has not enough left."""
    if target.kind not in (Kind.FILE, Kind.MISSING) or source.size is None:
        return
    kind = target.mount.type if target.mount is not None else ""
    if kind in ("vfat", "msdos") and source.size > _FAT_LIMIT:
        text = f"This filesystem cannot store a file of {format_size(source.size)}."
        yield refuse("file-too-long", text)
        return
    if kind in NO_HOLES_TYPES:
        text = (
            "This filesystem cannot store holes. The file will take the full "
            f"{format_size(source.size)}."
        )
        yield Finding(Severity.WARN, "no-holes", "target", text)
    free = _free_bytes(target)
    needed = max(0, source.size - target.stored)
    if free is not None and needed > free:
        text = (
            f"May run out of space: up to {format_size(needed)} needed, {format_size(free)} free. "
            "With Stop only when the target is full the mirror pauses then."
        )
        yield Finding(Severity.WARN, "low-space", "target", text)


def _free_bytes(target: ImageIdentity) -> int | None:
    folder = Path(target.path).parent
    try:
        status = os.statvfs(folder)
    except (AttributeError, OSError):  # not on this platform; no such folder
        return None
    return status.f_bavail * status.f_frsize


def _check_surroundings(source: ImageIdentity, target: ImageIdentity) -> Iterator[Finding]:
    if target.mount is not None and target.mount.is_remote:
        text = "Locks cannot be checked here. Make sure nobody else uses this file."
        yield Finding(Severity.WARN, "locks-unchecked", "target", text)
    if _disks(source) & _disks(target):
        yield Finding(Severity.HINT, "same-disk", "target", "Same disk: expect half the speed.")


def _disks(image: ImageIdentity) -> set[Place]:
    if image.place is not None:
        return disks_of(image.place)
    if image.mount is not None:
        return disks_of(Place(image.mount.source_device or image.mount.device))
    return set()
