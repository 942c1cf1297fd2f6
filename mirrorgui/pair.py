"""Both ends of a mirror: checked by name, opened, and checked again. Everything here blocks."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from mirrorgui.block.creation import TargetMode
from mirrorgui.block.drivers import PROTOCOLS
from mirrorgui.block.formats import HEAD_SIZE, LABELS, recognise_head
from mirrorgui.block.identity import ImageIdentity, Kind, identify_node, identify_path
from mirrorgui.block.info import image_info
from mirrorgui.block.lease import Lease
from mirrorgui.block.naming import Named, format_of, name_of, name_of_info
from mirrorgui.block.node import BlockNode
from mirrorgui.block.open import How, open_image
from mirrorgui.block.raw import ProbedRawGuard, RawNode
from mirrorgui.block.safety import Finding, Severity, check_pair, refuse_if_unsafe
from mirrorgui.block.spec import local_path
from mirrorgui.block.targets import Created, TargetPlan, create_target, plan_target
from mirrorgui.block.walk import identity_of
from mirrorgui.errors import BlockIOError, ImageRefused, InvalidInput
from mirrorgui.mirror.options import SyncMode
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
        created: the target's files when it was made for this; None otherwise.
        warnings: what a person should know before it begins.
    """

    source: BlockNode
    target: BlockNode
    created: Created | None = None
    warnings: tuple[Finding, ...] = ()


def check_request(request: MirrorRequest) -> list[Finding]:
    """Say everything about a pair of images that can be known without opening them for writing.

    Blocks: it reads headers and asks the system. A finding of severity ``refuse`` makes ``open``
    fail; ``confirm`` does so unless ``overwrite`` is set.

    Raises:
        InvalidInput: a name, format or option of the target makes no sense at all.
    """
    source = identify_path(
        request.source, "source", format=request.source_format, writing=request.opens_writable
    )
    target = _identify_target(request)
    found = _check(request, source, target)
    if _makes_target(request):
        _refuse_unmakable(request, target)
        found = list(_about_new_file(found, _plan_by_name(request)))
    elif target.kind is Kind.MISSING:
        text = "There is no such image, and target mode existing does not make one."
        raise ImageRefused("target", request.target, text)
    elif request.creation.given:
        name, value = next(iter(request.creation.given.items()))
        raise InvalidInput(name, value, "the target exists already; it is not made anew")
    return found


def open_pair(request: MirrorRequest) -> OpenPair:
    """Open source and target; nothing stays open or created when it fails.

    What a new target has replaced is still there, for ``undo_pair``, until ``created.keep()``.
    """
    _refuse_if_unsafe(check_request(request), request)
    source = open_image(
        request.source,
        format=request.source_format,
        how=How("source", read_only=not request.opens_writable),
    )
    try:
        plan = plan_by_node(request, source) if _makes_target(request) else None
        created = None
        if plan is not None:
            replaces = request.target_mode is TargetMode.ABSOLUTE_PATHS
            created = create_target(plan, request.target, replace=replaces)
        try:
            return _open_target(request, source, plan, created)
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


def remove_created(request: MirrorRequest, created: Created | None) -> bool:  # noqa: ARG001
    """Delete the files that were made for this session, and no others that have taken their names.

    Returns:
        Whether the target is gone.
    """
    return created is not None and created.remove()


def _identify_target(request: MirrorRequest) -> ImageIdentity:
    """Look at a target by its name.

    The format asked for is that of what is made. What is there has its own, and goes, whatever is
    wrong with it.
    """

    def identify(format: str | None) -> ImageIdentity:
        return identify_path(
            request.target, "target", format=format, writing=True, may_be_missing=True
        )

    if request.target_mode is not TargetMode.ABSOLUTE_PATHS:
        return identify(request.target_format)
    try:
        return identify(None)
    except ImageRefused:
        return identify("raw")


def _check(request: MirrorRequest, source: ImageIdentity, target: ImageIdentity) -> list[Finding]:
    return check_pair(source, target, may_stand_on_source=request.options.sync is SyncMode.NONE)


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


# A target that is made


def _makes_target(request: MirrorRequest) -> bool:
    """Say whether the target is made, as its mode says, or by default where there is nothing."""
    if request.target_mode is not None:
        return request.target_mode is TargetMode.ABSOLUTE_PATHS
    return _is_plain_path(request.target) and not Path(request.target).exists()


def _is_plain_path(target: str) -> bool:
    return local_path(target) == target


def _refuse_unmakable(request: MirrorRequest, target: ImageIdentity) -> None:
    if not _is_plain_path(request.target) or target.kind not in (Kind.FILE, Kind.MISSING):
        text = "Only files can be made new. Use anything else as an existing image."
        raise ImageRefused("target", request.target, text)


def _about_new_file(found: list[Finding], plan: TargetPlan) -> Iterator[Finding]:
    """Say what was found about a target's path in view of what is made there."""
    for one in found:
        if one.code in ("target-too-small", "target-larger"):
            continue  # what is made is as large as the source
        if one.code == "no-holes" and plan.format != "raw":
            continue  # it grows as data arrives, without any
        if one.code == "file-too-long" and plan.format != "raw":
            text = f"{one.text} The mirror stops when the copy becomes as long."
            yield replace(one, severity=Severity.WARN, text=text)
        elif one.code == "low-space" and plan.reserves:
            yield replace(one, severity=Severity.REFUSE)
        else:
            yield one


def _plan_by_name(request: MirrorRequest) -> TargetPlan:
    """Say what will be made, by what can be seen of the source without using it."""
    info = image_info(request.source, format=request.source_format, field="source")
    below = info.backing
    return _plan(
        request,
        "raw" if info.format in PROTOCOLS else info.format,
        info.virtual_size or 0,
        own=lambda: name_of_info(info),
        below=(lambda: name_of_info(below)) if below is not None else None,
    )


def plan_by_node(request: MirrorRequest, source: BlockNode) -> TargetPlan:
    """Say what will be made, by the open source."""
    backing = source.backing
    return _plan(
        request,
        format_of(source),
        source.size,
        own=lambda: name_of(source, "source"),
        below=(lambda: name_of(backing, "source")) if backing is not None else None,
    )


def _plan(
    request: MirrorRequest,
    source_format: str,
    size: int,
    *,
    own: Callable[[], Named],
    below: Callable[[], Named] | None,
) -> TargetPlan:
    """Choose the format and the backing file as ``drive-mirror`` does it.

    Args:
        request: what was asked for.
        source_format: QEMU's name of the source's format.
        size: of the source, in bytes.
        own: names the source.
        below: names its backing file; None without.
    """
    target_format = request.target_format or source_format
    named = None
    if request.creation.backing_file is None:
        if request.options.sync is SyncMode.NONE and target_format == "qcow2":
            named = own()
        elif request.options.sync is SyncMode.TOP and below is not None:
            named = below()
    return plan_target(request.creation, target_format, size, below=named)


# Opening it


def _open_target(
    request: MirrorRequest, source: BlockNode, plan: TargetPlan | None, created: Created | None
) -> OpenPair:
    # Filled once it is known that the target stands on the source: then it is that very node.
    shared: dict[object, Callable[[], BlockNode]] = {}
    target = open_image(
        request.target,
        # What is made here is known to be raw, whatever the source's first bytes look like.
        format=plan.format if plan is not None else request.target_format,
        how=How("target", write_out=WRITE_OUT, without_backing=True, shared=shared),
    )
    try:
        _require_writable(target, request.target)
        _require_no_other_format(source, target, request.target)
        # Once more by the open descriptors: names may have changed hands meanwhile.
        ends = identify_node(source), identify_node(target, writing=True)
        found = _check(request, *ends)
        if plan is not None:  # there is nothing of anybody else's in it
            found = [one for one in found if one.code not in ("target-larger", "overwrite")]
        _refuse_if_unsafe(found, request)
        found += _check_backing(request, source, target)
        warnings = tuple(one for one in found if one.severity is Severity.WARN)
        if ends[0].place is not None and ends[0].place in [place for _, place in ends[1].chain]:
            lease = Lease(source)
            shared[identity_of(source)] = lease.handle
            source = lease.handle()
        if plan is not None and request.creation.backing_file:
            target.check_backing()  # now, not when everything has been copied
        if target.size > source.size:
            # The rest stays as it is, and guests see no other size after the switch.
            target = RawNode(target, size=source.size)
        return OpenPair(source, target, created, warnings)
    except BaseException:
        target.close()
        raise


def _check_backing(request: MirrorRequest, source: BlockNode, target: BlockNode) -> list[Finding]:
    """Warn of a target that will lack what is not copied, because nothing lies below it."""
    if target.unopened_backing:
        return []
    sync, text = request.options.sync, ""
    if sync is SyncMode.TOP and source.backing is not None:
        text = f"The target has no backing file: it will lack what {source.backing.name} holds."
    elif sync is SyncMode.NONE:
        text = "The target has no backing file: what is not written from now on reads as zeroes."
    return [Finding(Severity.WARN, "no-backing", "target", text)] if text else []


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
