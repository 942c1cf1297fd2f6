"""Both ends of a mirror: checked by name, opened, and checked again. Everything here blocks."""

from dataclasses import dataclass
from pathlib import Path

from mirrorgui.block.create import create_raw
from mirrorgui.block.formats import HEAD_SIZE, LABELS, recognise_head
from mirrorgui.block.identity import identify_node, identify_path
from mirrorgui.block.node import BlockNode
from mirrorgui.block.open import How, open_image
from mirrorgui.block.raw import ProbedRawGuard, RawNode
from mirrorgui.block.safety import Finding, Severity, check_pair, refuse_if_unsafe
from mirrorgui.block.spec import local_path
from mirrorgui.errors import BlockIOError, ImageRefused, InvalidInput
from mirrorgui.request import MirrorRequest
from mirrorgui.units import MiB

WRITE_OUT = 64 * MiB
"""The target's dirty pages are sent to the disk from time to time, so that the flush is short."""


class OverwriteRefused(ImageRefused):
    """The target's content would be lost, and nobody has agreed to that (``overwrite``)."""


@dataclass(frozen=True, slots=True)
class OpenPair:
    """Both ends, open and checked.

    Attributes:
        source, target: the nodes.
        created: device and inode of the target file when it was made for this; None otherwise.
        warnings: what a person should know before it begins.
    """

    source: BlockNode
    target: BlockNode
    created: tuple[int, int] | None = None
    warnings: tuple[Finding, ...] = ()


def check_request(request: MirrorRequest) -> list[Finding]:
    """Say everything about a pair of images that can be known without opening them for writing.

    Blocks: it reads headers and asks the system. A finding of severity ``refuse`` makes ``open``
    fail; ``confirm`` does so unless ``overwrite`` is set.

    Raises:
        InvalidInput: a name or format makes no sense at all.
    """
    source = identify_path(
        request.source, "source", format=request.source_format, writing=request.opens_writable
    )
    target = identify_path(
        request.target, "target", format=request.target_format, writing=True, may_be_missing=True
    )
    return check_pair(source, target)


def open_pair(request: MirrorRequest) -> OpenPair:
    """Open source and target; nothing stays open or created when it fails."""
    _refuse_if_unsafe(check_request(request), request)
    source = open_image(
        request.source,
        format=request.source_format,
        how=How("source", read_only=not request.opens_writable),
    )
    try:
        created = _create_target(request, source)
        try:
            return _open_target(request, source, created)
        except BaseException:
            remove_created(request, created)
            raise
    except BaseException:
        source.close()
        raise


def undo_pair(request: MirrorRequest, pair: OpenPair) -> None:
    """Close a pair that nobody will use, and remove what was made for it."""
    pair.source.close()
    pair.target.close()
    remove_created(request, pair.created)


def _refuse_if_unsafe(found: list[Finding], request: MirrorRequest) -> None:
    """Raise for what forbids a start.

    Raises:
        OverwriteRefused: nothing but the agreement to lose the target's content is missing.
        ImageRefused: anything else.
    """
    values = {"source": request.source, "target": request.target}
    refuse_if_unsafe(found, values, overwrite=True)
    for finding in found:
        if finding.severity is Severity.CONFIRM and not request.overwrite:
            raise OverwriteRefused(finding.field, values[finding.field], finding.text)


def _create_target(request: MirrorRequest, source: BlockNode) -> tuple[int, int] | None:
    """Create the target file when it is a path at which there is nothing; say which it is."""
    path = local_path(request.target)
    if path is None or path != request.target or Path(path).exists():
        return None
    if request.target_format not in (None, "raw"):
        raise InvalidInput("target-format", request.target_format, "only raw images can be created")
    create_raw(path, source.size, field="target")
    status = Path(path).stat()
    return status.st_dev, status.st_ino


def remove_created(request: MirrorRequest, created: tuple[int, int] | None) -> bool:
    """Delete the file that was made for this session, and no other that has taken its name."""
    path = local_path(request.target)
    if created is None or path is None:
        return False
    try:
        status = Path(path).lstat()
        if (status.st_dev, status.st_ino) != created:
            return False
        Path(path).unlink()
    except FileNotFoundError:
        return False
    return True


def _open_target(
    request: MirrorRequest, source: BlockNode, created: tuple[int, int] | None
) -> OpenPair:
    target = open_image(
        request.target,
        # What is made here is known to be raw, whatever the source's first bytes look like.
        format="raw" if created else request.target_format,
        how=How("target", write_out=WRITE_OUT),
    )
    try:
        _require_writable(target, request.target)
        _require_no_other_format(source, target, request.target)
        # Once more by the open descriptors: names may have changed hands meanwhile.
        found = check_pair(identify_node(source), identify_node(target))
        _refuse_if_unsafe(found, request)
        warnings = tuple(one for one in found if one.severity is Severity.WARN)
        if target.size > source.size:
            # The rest stays as it is, and guests see no other size after the switch.
            target = RawNode(target, size=source.size)
        return OpenPair(source, target, created, warnings)
    except BaseException:
        target.close()
        raise


def _require_writable(target: BlockNode, name: str) -> None:
    if target.read_only:
        raise ImageRefused("target", name, "Block node is read-only")


def _require_no_other_format(source: BlockNode, target: BlockNode, name: str) -> None:
    """Refuse at once what a guarded target would refuse in the midst of the copy."""
    if not isinstance(target, ProbedRawGuard):
        return
    head = bytearray(min(HEAD_SIZE, source.size))
    try:
        source.read_into(0, head)
    except BlockIOError:
        return  # the copy meets it again, and there a policy decides
    found = recognise_head(bytes(head))
    if found != "raw":
        text = (
            f"The source's first bytes would make it look like {LABELS[found]}, while its own "
            "format was guessed to be raw. Name the target's format raw to allow that."
        )
        raise ImageRefused("target", name, text)
