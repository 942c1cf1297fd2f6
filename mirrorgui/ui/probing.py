"""Finding out about the images of the New mirror form. Blocks: call it in an executor."""

from dataclasses import replace
from pathlib import Path

from mirrorgui.block.info import ImageInfo
from mirrorgui.block.safety import Finding, Severity
from mirrorgui.errors import InvalidInput, MirrorGUIError
from mirrorgui.ui.backend import Backend
from mirrorgui.ui.export_form import export_request, missing_text
from mirrorgui.ui.form import FormValues, Look, build_request
from mirrorgui.ui.images import free_space


def look_at(backend: Backend, values: FormValues) -> Look:
    """Look at both images and check the pair, and the address for clients.

    Never raises over what was typed.
    """
    return replace(_look_at_images(backend, values), export=_check_export(backend, values))


def _look_at_images(backend: Backend, values: FormValues) -> Look:
    if not values.source:
        return Look()
    try:
        source = backend.info(values.source, values.source_format)
    except MirrorGUIError as error:
        return Look(source_problem=_reason(error))
    exists = _exists(values.target)
    return Look(
        source=source,
        target=_target_info(backend, values) if exists else None,
        findings=_check(backend, values, source) if values.target else (),
        free=_free(values.target),
        target_exists=exists,
    )


def _reason(error: MirrorGUIError) -> str:
    return error.reason if isinstance(error, InvalidInput) else str(error)


def _sentence(clause: str) -> str:
    """Make a sentence of what may be a clause."""
    text = clause[:1].upper() + clause[1:]
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _exists(target: str) -> bool:
    if not target:
        return False
    if target.startswith(("nbd", "json:")) and not target.startswith("/"):
        return True
    try:
        return Path(target).exists()
    except (OSError, ValueError):
        return False


def _target_info(backend: Backend, values: FormValues) -> ImageInfo | None:
    try:
        return backend.info(values.target, values.target_format)
    except MirrorGUIError:
        return None  # the check says why, in the words that fit a target


def _check(backend: Backend, values: FormValues, source: ImageInfo) -> tuple[Finding, ...]:
    try:
        return tuple(backend.check(build_request(values, "check", source)))
    except InvalidInput as error:
        return (Finding(Severity.REFUSE, "invalid", error.field, _sentence(error.reason)),)


def _check_export(backend: Backend, values: FormValues) -> tuple[Finding, ...]:
    request = export_request(values.export, values.source)
    if request is None or missing_text(values.export):
        return ()
    return tuple(backend.check_export(request))


def _free(target: str) -> int | None:
    try:
        return free_space(target) if target else None
    except (OSError, ValueError):
        return None
