"""The New mirror form without its widgets."""

from dataclasses import replace

import pytest

from mirrorgui.block.creation import TargetCreation, TargetMode
from mirrorgui.block.info import ImageInfo
from mirrorgui.block.safety import Finding, Severity
from mirrorgui.errors import ImageRefused, InvalidInput
from mirrorgui.mirror.options import CopyMode, ErrorPolicy, MirrorOptions, SyncMode
from mirrorgui.session import MirrorRequest, WhenReady
from mirrorgui.ui.creation_form import CreationValues
from mirrorgui.ui.form import FormValues, Look, TargetKind, build_request, judge, values_of
from mirrorgui.ui.form_texts import (
    buffer_text,
    chunks_text,
    detected_text,
    info_line,
    info_rows,
    new_rows,
    summary,
    top_reason,
)
from mirrorgui.ui.probing import look_at
from mirrorgui.units import GiB, KiB, MiB, TiB
from tests.ui.fakes import IMAGE, FakeBackend

RAW = ImageInfo("/vm/a.img", "raw", 64 * GiB, actual_size=14 * GiB)
OVERLAY = ImageInfo(
    "/vm/top.qcow2",
    "qcow2",
    64 * GiB,
    cluster_size=64 * KiB,
    backing_filename="base.qcow2",
    full_backing_filename="/vm/base.qcow2",
    backing=ImageInfo("/vm/base.qcow2", "qcow2", 32 * GiB),
)
VALUES = FormValues(source="/vm/a.img", target="/vm2/b.img")
SEEN = Look(source=RAW, free=210 * GiB)


def finding(severity, text, code="x"):
    return Finding(severity, code, "target", text)


def test_a_fresh_form_asks_for_a_source_then_for_a_target():
    assert judge(FormValues(), Look()).reason == "Choose a source."
    for kind, text in (
        (TargetKind.NEW, "Say where the new file goes."),
        (TargetKind.EXISTING, "Choose the target image."),
        (TargetKind.DEVICE, "Choose the target device."),
    ):
        verdict = judge(FormValues(source="/a", target_kind=kind), Look(source=RAW))
        assert verdict.reason == text
        assert verdict.inviting
        assert not verdict.can_start
        assert all(each.invitation for each in verdict.remarks)


def test_a_good_pair_can_start():
    verdict = judge(VALUES, SEEN)
    assert verdict.can_start
    assert not verdict.reason
    assert not verdict.destructive


def test_an_unreadable_source_is_the_first_reason():
    look = Look(source_problem="Cannot read /vm/a.img: Permission denied.")
    verdict = judge(VALUES, look)
    assert verdict.reason == "Cannot read /vm/a.img: Permission denied."
    assert not verdict.inviting


def test_a_refusal_of_the_safety_check_forbids_the_start():
    same = "Source and target are the same image."
    verdict = judge(VALUES, replace(SEEN, findings=(finding(Severity.REFUSE, same),)))
    assert (verdict.can_start, verdict.reason) == (False, same)


def test_warnings_and_hints_do_not_forbid_and_come_after_refusals():
    findings = (
        finding(Severity.HINT, "Same disk: expect half the speed."),
        finding(Severity.WARN, "Target is 1.0 GiB larger. The rest stays unchanged."),
    )
    verdict = judge(VALUES, replace(SEEN, findings=findings))
    assert verdict.can_start
    assert [each.severity for each in verdict.remarks] == [Severity.WARN, Severity.HINT]


def test_overwriting_needs_its_tick_and_is_destructive():
    text = "Overwrite b.img (14.2 GiB, changed yesterday 18:12). Its content will be lost."
    look = replace(SEEN, findings=(finding(Severity.CONFIRM, text),), target_exists=True)
    verdict = judge(VALUES, look)
    assert verdict.tick == text
    assert verdict.destructive
    assert verdict.reason == "Tick that the target's content may be lost."
    assert judge(replace(VALUES, overwrite=True), look).can_start


def test_a_device_is_confirmed_by_typing_not_by_a_tick():
    look = replace(SEEN, findings=(finding(Severity.CONFIRM, "All data lost."),))
    verdict = judge(replace(VALUES, target_kind=TargetKind.DEVICE), look)
    assert verdict.can_start
    assert verdict.typed
    assert verdict.destructive
    assert not verdict.tick


def test_an_existing_target_has_to_exist():
    verdict = judge(replace(VALUES, target_kind=TargetKind.EXISTING), SEEN)
    assert verdict.reason == "/vm2/b.img does not exist. Choose New file to make it."


def test_a_field_that_cannot_be_read_is_a_reason():
    verdict = judge(replace(VALUES, mistakes=(("speed", "'fast' is not a speed."),)), SEEN)
    assert verdict.reason == "'fast' is not a speed."


def test_without_its_backing_file_nothing_can_be_copied():
    broken = replace(OVERLAY, backing=None, backing_error="No such file")
    text = "Could not open backing file /vm/base.qcow2: No such file."
    look = Look(source=broken, findings=(finding(Severity.REFUSE, text),))
    for sync in SyncMode:
        verdict = judge(replace(VALUES, sync=sync), look)
        assert verdict.reason == text
        assert [each.text for each in verdict.remarks].count(text) == 1


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (
            replace(VALUES, sync=SyncMode.NONE),
            "The target is usable only if it already holds the source's present content.",
        ),
        (replace(VALUES, speed=1000), "Less than one chunk per second."),
    ],
)
def test_choices_with_a_catch_are_warned_about(values, text):
    verdict = judge(values, SEEN)
    assert verdict.can_start
    assert text in [each.text for each in verdict.remarks]


def test_very_fine_chunks_are_warned_about():
    huge = Look(source=replace(RAW, virtual_size=TiB))
    text = "Very fine. The map and each pass get slower; choose 64 KiB or more."
    fine = judge(replace(VALUES, granularity=512), huge)
    assert text in [each.text for each in fine.remarks]
    assert not judge(VALUES, huge).remarks


def test_a_request_has_everything_that_was_filled_in():
    values = FormValues(
        source="/a",
        source_format="raw",
        target="/b",
        target_format="raw",
        overwrite=True,
        sync=SyncMode.NONE,
        granularity=4096,
        buf_size=MiB,
        copy_mode=CopyMode.WRITE_BLOCKING,
        speed=5 * MiB,
        on_source_error=ErrorPolicy.IGNORE,
        on_target_error=ErrorPolicy.ENOSPC,
        when_ready=WhenReady.COMPLETE,
    )
    request = build_request(values, "m1")
    assert request == MirrorRequest(
        source="/a",
        target="/b",
        source_format="raw",
        target_format="raw",
        target_mode=TargetMode.ABSOLUTE_PATHS,
        overwrite=True,
        when_ready=WhenReady.COMPLETE,
        options=MirrorOptions(
            job_id="m1",
            sync=SyncMode.NONE,
            granularity=4096,
            buf_size=MiB,
            copy_mode=CopyMode.WRITE_BLOCKING,
            speed=5 * MiB,
            on_source_error=ErrorPolicy.IGNORE,
            on_target_error=ErrorPolicy.ENOSPC,
        ),
    )
    again = values_of(request)
    assert again == replace(values, target="", overwrite=False)


QCOW2 = CreationValues(cluster_size=4 * KiB, preallocation="metadata", lazy_refcounts=True)


@pytest.mark.parametrize(
    ("source", "chosen", "sync", "creation"),
    [
        (OVERLAY, None, SyncMode.FULL, TargetCreation("metadata", 4 * KiB, lazy_refcounts=True)),
        (OVERLAY, None, SyncMode.TOP, TargetCreation(cluster_size=4 * KiB, lazy_refcounts=True)),
        (RAW, "qcow2", SyncMode.NONE, TargetCreation(cluster_size=4 * KiB, lazy_refcounts=True)),
        (RAW, None, SyncMode.FULL, TargetCreation()),
        (OVERLAY, "raw", SyncMode.FULL, TargetCreation()),
    ],
)
def test_a_new_file_is_asked_for_what_its_format_can_have(source, chosen, sync, creation):
    values = replace(VALUES, target_format=chosen, sync=sync, creation=QCOW2)
    assert build_request(values, "m", source).creation == creation
    existing = replace(values, target_kind=TargetKind.EXISTING)
    request = build_request(existing, "m", source)
    assert (request.creation, request.target_mode) == (TargetCreation(), TargetMode.EXISTING)


def test_a_raw_file_can_be_reserved():
    values = replace(VALUES, creation=CreationValues(preallocation="falloc"))
    assert build_request(values, "m", RAW).creation == TargetCreation(preallocation="falloc")


def test_a_new_file_says_what_lies_below_it():
    top = replace(VALUES, source="/vm/top.qcow2", sync=SyncMode.TOP)
    assert new_rows(top, OVERLAY) == [
        ("Backing file", "└ base.qcow2 (qcow2, 32.0 GiB)", False),
    ]
    assert new_rows(replace(top, sync=SyncMode.NONE), OVERLAY) == [
        ("Backing file", "└ top.qcow2 (qcow2, 64.0 GiB)", False),
        ("", "   └ base.qcow2 (qcow2, 32.0 GiB)", False),
    ]
    assert new_rows(replace(top, sync=SyncMode.FULL), OVERLAY) == [
        ("Backing file", "none, the file stands alone", False)
    ]
    assert new_rows(replace(top, target_format="raw"), OVERLAY) == []
    assert "to the new file /vm2/b.img over base.qcow2." in summary(top, Look(source=OVERLAY))


def test_a_new_file_over_the_source_needs_it():
    look = Look(source=OVERLAY)
    values = replace(VALUES, sync=SyncMode.NONE)
    hint = "The new file needs the source below it from then on: keep both."
    assert [each.text for each in judge(values, look).remarks] == [hint]
    warning = "The target is usable only if it already holds the source's present content."
    for other in (
        replace(values, target_format="raw"),
        replace(values, target_kind=TargetKind.DEVICE),
    ):
        assert [each.text for each in judge(other, look).remarks] == [warning]


def test_errors_stop_and_ask_unless_said_otherwise():
    assert FormValues().on_source_error is ErrorPolicy.STOP
    assert FormValues().on_target_error is ErrorPolicy.STOP


def test_texts_about_images():
    assert info_line(RAW) == "raw, 64.0 GiB"
    assert info_line(OVERLAY) == "qcow2, 64.0 GiB, base.qcow2 below"
    assert info_line(replace(RAW, virtual_size=None)) == "raw"
    assert detected_text(None) == "Auto"
    assert detected_text(RAW) == "Auto (raw, detected)"
    assert top_reason(RAW) == "The source has no backing file, so Top equals Full."
    assert top_reason(OVERLAY) == ""
    assert top_reason(None) == ""


def test_rows_about_images():
    rows = info_rows(RAW, guessed=True)
    assert ("Size", "64.0 GiB (68 719 476 736 bytes)", False) in rows
    assert ("Note", "No known image header found. It will be read as raw.", False) in rows
    assert len(info_rows(RAW, guessed=False)) == len(rows) - 1
    chain = [value for _caption, value, _wrong in info_rows(OVERLAY, guessed=True)]
    assert "└ base.qcow2 (qcow2, 32.0 GiB)" in chain
    broken = replace(OVERLAY, backing=None, backing_error="gone")
    assert ("Backing file", "missing: /vm/base.qcow2", True) in info_rows(broken, guessed=False)


def test_numbers_beside_the_options():
    assert chunks_text(TiB, 64 * KiB) == "16 777 216 chunks, 2 MiB bitmap"
    assert chunks_text(64 * KiB, 0) == "1 chunk, 1 B bitmap"
    assert chunks_text(None, 0) == ""
    assert buffer_text(0, 0) == ""
    assert buffer_text(100 * KiB, 64 * KiB) == "rounded up to 128 KiB"
    assert buffer_text(MiB, 64 * KiB) == ""


@pytest.mark.parametrize(
    ("values", "look", "text"),
    [
        (FormValues(), Look(), "Choose a source and a target."),
        (
            VALUES,
            SEEN,
            "Copies 64.0 GiB from /vm/a.img to the new file /vm2/b.img. Needs up to 64.0 GiB; "
            "210.0 GiB free.",
        ),
        (
            replace(VALUES, target_kind=TargetKind.EXISTING),
            SEEN,
            "Copies 64.0 GiB from /vm/a.img over /vm2/b.img.",
        ),
        (
            replace(VALUES, target_kind=TargetKind.DEVICE, target="/dev/sdb"),
            SEEN,
            "Copies 64.0 GiB from /vm/a.img to the device /dev/sdb.",
        ),
        (
            replace(VALUES, sync=SyncMode.NONE, target_kind=TargetKind.EXISTING),
            SEEN,
            "Sends what is written to /vm/a.img from now on to /vm2/b.img.",
        ),
        (
            replace(VALUES, sync=SyncMode.TOP, target_kind=TargetKind.EXISTING),
            Look(source=OVERLAY),
            "Copies the top layer of /vm/a.img to /vm2/b.img.",
        ),
        (
            replace(
                VALUES,
                target_kind=TargetKind.EXISTING,
                speed=10 * MiB,
                copy_mode=CopyMode.WRITE_BLOCKING,
                when_ready=WhenReady.COMPLETE,
            ),
            SEEN,
            "Copies 64.0 GiB from /vm/a.img over /vm2/b.img. At most 10 MiB/s. Client writes wait "
            "for the target. Clients move to the target once in sync.",
        ),
    ],
)
def test_the_summary_says_what_start_will_do(values, look, text):
    assert summary(values, look) == text


# Looking at images.


def test_a_look_tells_both_images_and_the_check(tmp_path):
    backend = FakeBackend()
    backend.findings = [finding(Severity.WARN, "w")]
    target = tmp_path / "new.img"
    look = look_at(backend, FormValues(source="/vm/source.img", target=str(target)))
    assert look.source == IMAGE
    assert look.target is None
    assert not look.target_exists
    assert look.free > 0
    assert look.findings == tuple(backend.findings)
    target.write_bytes(b"x")
    assert look_at(backend, FormValues(source="/s", target=str(target))).target_exists


def test_a_look_without_a_target_checks_nothing():
    backend = FakeBackend()
    assert look_at(backend, FormValues()) == Look()
    assert look_at(backend, FormValues(source="/vm/source.img")).findings == ()
    assert not backend.checked


def test_a_look_turns_errors_into_reasons(tmp_path):
    backend = FakeBackend()
    backend.infos["/bad"] = ImageRefused("source", "/bad", "/bad is a folder.")
    assert look_at(backend, FormValues(source="/bad")).source_problem == "/bad is a folder."
    backend.findings = InvalidInput("target", "x", "no such driver")
    look = look_at(backend, FormValues(source="/s", target=str(tmp_path / "t")))
    assert [each.text for each in look.findings] == ["No such driver."]
    assert look.findings[0].severity is Severity.REFUSE


def test_a_look_survives_names_that_cannot_be(tmp_path):
    look = look_at(FakeBackend(), FormValues(source="/s", target="a\0b"))
    assert not look.target_exists
    assert look.target is None
