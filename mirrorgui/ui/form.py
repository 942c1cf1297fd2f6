"""The New mirror form without its widgets: values, verdict and texts. Free of Qt."""

import enum
from dataclasses import dataclass, field

from mirrorgui.block.creation import TargetCreation, TargetMode
from mirrorgui.block.info import ImageInfo
from mirrorgui.block.safety import Finding, Severity
from mirrorgui.mirror.options import (
    CopyMode,
    ErrorPolicy,
    MirrorOptions,
    SyncMode,
    effective_granularity,
)
from mirrorgui.session import MirrorRequest, WhenReady
from mirrorgui.ui.creation_form import (
    CreationValues,
    creation_of,
    layers_below,
    new_format,
    values_of_creation,
)
from mirrorgui.ui.export_form import (
    ExportValues,
    export_request,
    export_values_of,
    missing_text,
)
from mirrorgui.ui.i18n import tr
from mirrorgui.units import MiB

FINE_CHUNKS = 64 * MiB
"""More chunks than this, and each pass over them is felt."""


class TargetKind(enum.Enum):
    """What the copy is written to."""

    NEW = "new"
    EXISTING = "existing"
    DEVICE = "device"


@dataclass(frozen=True, slots=True)
class FormValues:
    """What is filled in; sizes in bytes, 0 for automatic.

    Attributes:
        creation: how a new file is made.
        overwrite: "its content will be lost" is ticked.
        mistakes: fields that cannot be read, with the reason: ``(field, text)``.
    """

    source: str = ""
    source_format: str | None = None
    target_kind: TargetKind = TargetKind.NEW
    target: str = ""
    target_format: str | None = None
    creation: CreationValues = field(default_factory=CreationValues)
    overwrite: bool = False
    sync: SyncMode = SyncMode.FULL
    granularity: int = 0
    buf_size: int = 0
    copy_mode: CopyMode = CopyMode.BACKGROUND
    speed: int = 0
    on_source_error: ErrorPolicy = ErrorPolicy.STOP
    on_target_error: ErrorPolicy = ErrorPolicy.STOP
    when_ready: WhenReady = WhenReady.WAIT
    export: ExportValues = field(default_factory=ExportValues)
    mistakes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Look:
    """What was found out about both images; everything is empty before the first look.

    Attributes:
        source, target: what they are; None where there is nothing, or nothing readable.
        source_problem: why the source cannot be read.
        findings: of the safety check.
        export: what was found out about the address for clients.
        free: bytes free where a new target would lie, when known.
        target_exists: there is something at the target's path.
    """

    source: ImageInfo | None = None
    target: ImageInfo | None = None
    source_problem: str = ""
    findings: tuple[Finding, ...] = ()
    export: tuple[Finding, ...] = ()
    free: int | None = None
    target_exists: bool = False


@dataclass(frozen=True, slots=True)
class Remark:
    """A sentence about a field: ``refuse`` forbids, ``warn`` and ``hint`` do not.

    Attributes:
        invitation: nothing is wrong yet, something is only missing.
    """

    severity: Severity
    field: str
    text: str
    invitation: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from values and look.

    Attributes:
        can_start: the start button works.
        reason: the first reason why not, for the place beside the button.
        inviting: that reason is no mistake, something is only missing.
        destructive: something that exists will be overwritten.
        tick: text of the box that has to be ticked before, or empty.
        typed: a device: its name has to be typed in a dialog of its own.
        export_tick: text of the box that has to be ticked before others may reach the source.
        remarks: everything there is to say, the most serious first.
    """

    can_start: bool
    reason: str = ""
    inviting: bool = False
    destructive: bool = False
    tick: str = ""
    typed: bool = False
    export_tick: str = ""
    remarks: tuple[Remark, ...] = field(default=())


_WEIGHT = {Severity.REFUSE: 0, Severity.CONFIRM: 1, Severity.WARN: 2, Severity.HINT: 3}


def build_request(
    values: FormValues, job_id: str, source: ImageInfo | None = None
) -> MirrorRequest:
    """Make a request of the form.

    Args:
        values: what is filled in.
        job_id: a name for the job.
        source: what is known of the source, whose format a new file may get.

    Raises:
        InvalidInput: an option is outside its limits.
    """
    new = values.target_kind is TargetKind.NEW
    return MirrorRequest(
        source=values.source,
        target=values.target,
        source_format=values.source_format,
        target_format=values.target_format,
        target_mode=TargetMode.ABSOLUTE_PATHS if new else TargetMode.EXISTING,
        creation=_creation(values, source) if new else TargetCreation(),
        overwrite=values.overwrite,
        when_ready=values.when_ready,
        export=export_request(values.export, values.source),
        options=MirrorOptions(
            job_id=job_id,
            sync=values.sync,
            granularity=values.granularity,
            buf_size=values.buf_size,
            speed=values.speed,
            copy_mode=values.copy_mode,
            on_source_error=values.on_source_error,
            on_target_error=values.on_target_error,
        ),
    )


def _creation(values: FormValues, source: ImageInfo | None) -> TargetCreation:
    image_format = new_format(values.target_format, source)
    has_backing = bool(layers_below(values.sync, image_format, source))
    return creation_of(values.creation, image_format, has_backing=has_backing)


def values_of(request: MirrorRequest) -> FormValues:
    """Return the form that a request was made of, with the target left empty."""
    options = request.options
    return FormValues(
        source=request.source,
        source_format=request.source_format,
        target_format=request.target_format,
        creation=values_of_creation(request.creation),
        sync=options.sync,
        granularity=options.granularity,
        buf_size=options.buf_size,
        copy_mode=options.copy_mode,
        speed=options.speed,
        on_source_error=options.on_source_error,
        on_target_error=options.on_target_error,
        when_ready=request.when_ready,
        export=export_values_of(request.export),
    )


def judge(values: FormValues, look: Look) -> Verdict:
    """Say whether the form can be started and what there is to say about it."""
    remarks = sorted(_remarks(values, look), key=lambda each: _WEIGHT[each.severity])
    device = values.target_kind is TargetKind.DEVICE
    confirm = [each for each in look.findings if each.severity is Severity.CONFIRM]
    tick = " ".join(each.text for each in confirm) if not device else ""
    refusals = [each for each in remarks if each.severity is Severity.REFUSE]
    reason = refusals[0].text if refusals else ""
    inviting = bool(refusals) and refusals[0].invitation
    export_tick = _export_tick(values.export, look)
    if not reason and tick and not values.overwrite:
        reason = tr("Tick that the target's content may be lost.")
    if not reason and export_tick and not values.export.allow_remote:
        reason = tr("Tick that others may reach the source.")
    return Verdict(
        can_start=not reason,
        reason=reason,
        inviting=inviting,
        destructive=bool(confirm) or (device and bool(values.target)),
        tick=tick,
        typed=device,
        export_tick=export_tick,
        remarks=tuple(each for each in remarks if each.severity is not Severity.CONFIRM),
    )


def _remarks(values: FormValues, look: Look) -> list[Remark]:
    refuse = Severity.REFUSE
    found = []
    if not values.source:
        found.append(Remark(refuse, "source", tr("Choose a source."), invitation=True))
    elif look.source_problem:
        found.append(Remark(refuse, "source", look.source_problem))
    if values.source and not values.target:
        text = _missing_target(values.target_kind)
        found.append(Remark(refuse, "target", text, invitation=True))
    found += [Remark(refuse, name, text) for name, text in values.mistakes]
    if values.source and values.target:
        found += _target_remarks(values, look)
        known = {each.text for each in found} | {look.source.chain_error if look.source else ""}
        found += [
            Remark(each.severity, each.field, each.text)
            for each in look.findings
            if each.text not in known
        ]
    found += _export_remarks(values, look)
    found += _option_remarks(values, look.source)
    found += _none_remarks(values, look)
    return found


def _export_tick(export: ExportValues, look: Look) -> str:
    """Return what has to be agreed to before others can reach the source."""
    confirm = (each.text for each in look.export if each.severity is Severity.CONFIRM)
    return next(confirm, "") if export.enabled else ""


def _export_remarks(values: FormValues, look: Look) -> list[Remark]:
    if not values.export.enabled:
        return []
    missing = missing_text(values.export)
    if missing:
        return [Remark(Severity.REFUSE, "export", missing, invitation=True)]
    found = [
        Remark(each.severity, each.field, each.text)
        for each in look.export
        if each.severity is not Severity.CONFIRM
    ]
    if values.export.read_only and values.sync is SyncMode.NONE:
        text = tr("Nothing will be copied: clients cannot write to a read-only export.")
        found.append(Remark(Severity.WARN, "export", text))
    return found


def _missing_target(kind: TargetKind) -> str:
    return {
        TargetKind.NEW: tr("Say where the new file goes."),
        TargetKind.EXISTING: tr("Choose the target image."),
        TargetKind.DEVICE: tr("Choose the target device."),
    }[kind]


def _target_remarks(values: FormValues, look: Look) -> list[Remark]:
    if look.source is None:
        return []
    if values.target_kind is TargetKind.EXISTING and not look.target_exists:
        text = tr("{path} does not exist. Choose New file to make it.", path=values.target)
        return [Remark(Severity.REFUSE, "target", text)]
    return []


def _option_remarks(values: FormValues, source: ImageInfo | None) -> list[Remark]:
    found = []
    if source is not None:
        found += _source_remarks(values, source)
    if 0 < values.speed < effective_granularity(values.granularity, 0):
        text = tr("Less than one chunk per second.")
        found.append(Remark(Severity.WARN, "speed", text))
    return found


def _none_remarks(values: FormValues, look: Look) -> list[Remark]:
    """Say what a target of only the new writes needs."""
    if values.sync is not SyncMode.NONE:
        return []
    if values.target_kind is TargetKind.NEW:
        image_format = new_format(values.target_format, look.source)
        if layers_below(values.sync, image_format, look.source):
            text = tr("The new file needs the source below it from then on: keep both.")
            return [Remark(Severity.HINT, "sync", text)]
    text = tr("The target is usable only if it already holds the source's present content.")
    return [Remark(Severity.WARN, "sync", text)]


def _source_remarks(values: FormValues, source: ImageInfo) -> list[Remark]:
    found = []
    if source.chain_error:
        found.append(Remark(Severity.REFUSE, "source", source.chain_error))
    if source.virtual_size is not None:
        granularity = effective_granularity(values.granularity, 0)
        if -(-source.virtual_size // granularity) > FINE_CHUNKS:
            text = tr("Very fine. The map and each pass get slower; choose 64 KiB or more.")
            found.append(Remark(Severity.WARN, "granularity", text))
    return found
