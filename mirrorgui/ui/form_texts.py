"""What the New mirror form says about images and choices. Free of Qt."""

from collections.abc import Sequence

from mirrorgui.block.info import ImageInfo
from mirrorgui.mirror.options import (
    CopyMode,
    SyncMode,
    effective_buf_size,
    effective_granularity,
)
from mirrorgui.session import WhenReady
from mirrorgui.ui.creation_form import layers_below, new_format
from mirrorgui.ui.export_form import export_line
from mirrorgui.ui.form import FormValues, Look, TargetKind
from mirrorgui.ui.i18n import ntr, tr
from mirrorgui.ui.names import short_name
from mirrorgui.ui.quantities import plain_rate, plain_size
from mirrorgui.units import format_size


def top_reason(source: ImageInfo | None) -> str:
    """Say why Top cannot be chosen, or return an empty text."""
    if source is not None and not source.backing_filename:
        return tr("The source has no backing file, so Top equals Full.")
    return ""


def chunks_text(size: int | None, granularity: int, cluster_size: int = 0) -> str:
    """Say how many chunks an image has: ``16 777 216 chunks, 2.0 MiB bitmap``."""
    if not size:
        return ""
    chunks = -(-size // effective_granularity(granularity, cluster_size))
    count = ntr("{n} chunk", "{n} chunks", chunks)
    return tr("{chunks}, {size} bitmap", chunks=count, size=plain_size(-(-chunks // 8)))


def buffer_text(buf_size: int, granularity: int) -> str:
    """Say what a buffer is rounded up to, or return an empty text when it stays as it is."""
    rounded = effective_buf_size(buf_size, effective_granularity(granularity, 0))
    if buf_size in (0, rounded):
        return ""
    return tr("rounded up to {size}", size=plain_size(rounded))


def detected_text(info: ImageInfo | None) -> str:
    """Name the automatic choice of a format: ``Auto (raw, detected)``."""
    if info is None:
        return tr("Auto")
    return tr("Auto ({format}, detected)", format=info.format)


def automatic_text(source: ImageInfo | None) -> str:
    """Name the automatic choice of a new file's format: ``Same as source (qcow2)``."""
    if source is None:
        return tr("Same as source")
    return tr("Same as source ({format})", format=source.format)


def info_line(info: ImageInfo) -> str:
    """Say what an image is in a few words: ``raw, 64.0 GiB``."""
    if info.virtual_size is None:
        return info.format
    line = f"{info.format}, {format_size(info.virtual_size)}"
    if info.backing_filename:
        return tr("{line}, {backing} below", line=line, backing=short_name(info.backing_filename))
    return line


def info_rows(info: ImageInfo, *, guessed: bool) -> list[tuple[str, str, bool]]:
    """Describe an image in rows: caption, value, and whether something is wrong with it.

    Args:
        info: the image.
        guessed: its format was not said but recognised.
    """
    rows = [(tr("Format"), info.format, False)]
    if info.virtual_size is not None:
        exact = f"{info.virtual_size:,}".replace(",", " ")
        size = tr("{size} ({exact} bytes)", size=format_size(info.virtual_size), exact=exact)
        rows.append((tr("Size"), size, False))
    if info.actual_size is not None:
        rows.append((tr("Used on disk"), format_size(info.actual_size), False))
    if info.cluster_size:
        rows.append((tr("Cluster size"), format_size(info.cluster_size), False))
    if info.data_file:
        rows.append((tr("Data file"), info.data_file, False))
    if info.snapshots:
        count = ntr("{n}, stays in the source", "{n}, stay in the source", len(info.snapshots))
        rows.append((tr("Snapshots"), count, False))
    rows += chain_rows(info.chain[1:])
    last = info.chain[-1]
    if last.backing_error:
        missing = tr("missing: {path}", path=last.full_backing_filename)
        rows.append((tr("Backing file"), missing, True))
    if guessed and info.format == "raw":
        text = tr("No known image header found. It will be read as raw.")
        rows.append((tr("Note"), text, False))
    return rows


def chain_rows(layers: Sequence[ImageInfo]) -> list[tuple[str, str, bool]]:
    """Describe what lies below an image in rows, nearest first: name, format and size of each."""
    rows = []
    for level, layer in enumerate(layers):
        caption = tr("Backing file") if not level else ""
        rows.append((caption, f"{'   ' * level}└ {_layer(layer)}", False))
    return rows


def _layer(info: ImageInfo) -> str:
    name = short_name(info.filename)
    if info.virtual_size is None:
        return f"{name} ({info.format})"
    return f"{name} ({info.format}, {format_size(info.virtual_size)})"


def new_rows(values: FormValues, source: ImageInfo | None) -> list[tuple[str, str, bool]]:
    """Describe what will lie below a new file, in rows."""
    image_format = new_format(values.target_format, source)
    if source is None or image_format != "qcow2":
        return []
    layers = layers_below(values.sync, image_format, source)
    if layers:
        return chain_rows(layers)
    return [(tr("Backing file"), tr("none, the file stands alone"), False)]


def summary(values: FormValues, look: Look) -> str:
    """Say in a sentence or two what Start will do."""
    if not values.source or not values.target or look.source is None:
        return tr("Choose a source and a target.")
    source = look.source
    size = source.virtual_size or 0
    parts = [_what(values, source, size), _room(values, look, size)]
    parts += [export_line(values.export, values.source), _how(values)]
    return " ".join(part for part in parts if part)


def _what(values: FormValues, source: ImageInfo, size: int) -> str:
    names = {"source": values.source, "target": values.target}
    if values.sync is SyncMode.NONE:
        return tr("Sends what is written to {source} from now on to {target}.", **names)
    amount = format_size(size)
    if values.sync is SyncMode.TOP and source.backing_filename:
        if values.target_kind is TargetKind.NEW:
            base = short_name(source.backing_filename)
            text = "Copies the top layer of {source} to the new file {target} over {base}."
            return tr(text, base=base, **names)
        return tr("Copies the top layer of {source} to {target}.", **names)
    if values.target_kind is TargetKind.NEW:
        return tr("Copies {amount} from {source} to the new file {target}.", amount=amount, **names)
    if values.target_kind is TargetKind.DEVICE:
        return tr("Copies {amount} from {source} to the device {target}.", amount=amount, **names)
    return tr("Copies {amount} from {source} over {target}.", amount=amount, **names)


def _room(values: FormValues, look: Look, size: int) -> str:
    if values.target_kind is not TargetKind.NEW or look.free is None:
        return ""
    return tr(
        "Needs up to {needed}; {free} free.", needed=format_size(size), free=format_size(look.free)
    )


def _how(values: FormValues) -> str:
    parts = []
    if values.speed:
        parts.append(tr("At most {rate}.", rate=plain_rate(values.speed)))
    if values.copy_mode is CopyMode.WRITE_BLOCKING:
        parts.append(tr("Client writes wait for the target."))
    if values.when_ready is WhenReady.COMPLETE:
        parts.append(tr("Clients move to the target once in sync."))
    elif values.when_ready is WhenReady.CANCEL:
        parts.append(tr("Ends by itself once in sync; clients stay on the source."))
    return " ".join(parts)
