"""The states in words, as the table of the window's design has them."""

import pytest

from mirrorgui.mirror.snapshot import Outcome, Phase
from mirrorgui.mirror.states import JobStatus
from mirrorgui.ui.names import Names
from mirrorgui.ui.wording import (
    Bar,
    Tone,
    clock,
    failure_place,
    headline,
    list_text,
    percent,
    shown_state,
    window_title,
)
from mirrorgui.units import GiB, MiB
from tests.ui.fakes import NOON_NS, error, full, snapshot, stopped

NAMES = Names.of("/vm/source.qcow2", "/vm2/target.qcow2")
S = JobStatus
NOON = clock(NOON_NS)


def said(words, now):
    return words(now, shown_state(now, NAMES))


@pytest.mark.parametrize(
    ("now", "text", "icon", "tone"),
    [
        (snapshot(S.CREATED), "Preparing...", "wait", Tone.NEUTRAL),
        (snapshot(S.RUNNING, phase=Phase.PREPARING), "Preparing...", "wait", Tone.NEUTRAL),
        (
            snapshot(S.RUNNING, phase=Phase.SCANNING, scan_done=41 * MiB, scan_total=100 * MiB),
            "Preparing: looking for data 41 %",
            "scan",
            Tone.ACTIVE,
        ),
        (snapshot(S.RUNNING), "Copying 62 %", "copy", Tone.ACTIVE),
        (snapshot(S.RUNNING, phase=Phase.FLUSHING), "Flushing...", "flush", Tone.ACTIVE),
        (snapshot(S.RUNNING, pause_requested=True), "Pausing...", "pause", Tone.NEUTRAL),
        (snapshot(S.READY), "In sync - complete when you like", "in-sync", Tone.GOOD),
        (
            snapshot(S.READY, dirty_bytes=2 * MiB, in_flight_bytes=1153434),
            "In sync, 3.1 MiB behind",
            "in-sync",
            Tone.GOOD,
        ),
        (
            snapshot(S.READY, complete_requested=True, dirty_bytes=3 * MiB),
            "Switching, 3.0 MiB left",
            "switch",
            Tone.ACTIVE,
        ),
        (
            snapshot(S.READY, complete_requested=True),
            "Switching... writes are being flushed",
            "switch",
            Tone.ACTIVE,
        ),
        (
            snapshot(S.READY, soft_cancel_requested=True, dirty_bytes=3 * MiB),
            "Finishing, 3.0 MiB left",
            "finish",
            Tone.ACTIVE,
        ),
        (snapshot(S.READY, pause_requested=True), "In sync, pausing...", "pause", Tone.NEUTRAL),
        (snapshot(S.PAUSED), "Paused by you", "pause", Tone.ATTENTION),
        (stopped(), "Stopped: write error at 12.0 GiB", "error", Tone.ERROR),
        (
            stopped(error(operation="read")),
            "Stopped: read error at 12.0 GiB",
            "error",
            Tone.ERROR,
        ),
        (stopped(error(length=0)), "Stopped: flush error", "error", Tone.ERROR),
        (stopped(errors=()), "Stopped by an error", "error", Tone.ERROR),
        (full(), "Stopped: target is full", "error", Tone.ERROR),
        (snapshot(S.STANDBY), "In sync, paused", "pause", Tone.ATTENTION),
        (
            snapshot(S.WAITING, complete_requested=True),
            "Switching... writes are being flushed",
            "switch",
            Tone.ACTIVE,
        ),
        (
            snapshot(S.PENDING, paused=True),
            "Switching... writes are being flushed",
            "switch",
            Tone.ACTIVE,
        ),
        (
            snapshot(S.WAITING, soft_cancel_requested=True),
            "Finishing... writes are being flushed",
            "finish",
            Tone.ACTIVE,
        ),
        (snapshot(S.ABORTING), "Cancelling...", "cancel", Tone.ATTENTION),
        (
            snapshot(S.ABORTING, error="No space"),
            "Stopping after an error...",
            "cancel",
            Tone.ATTENTION,
        ),
        (snapshot(S.CONCLUDED), "Done. Clients use target.qcow2.", "done", Tone.GOOD),
        (snapshot(S.NULL), "Done. Clients use target.qcow2.", "done", Tone.GOOD),
        (
            snapshot(S.CONCLUDED, outcome=Outcome.FINISHED),
            f"Done. target.qcow2 is a copy as of {NOON}. Clients use source.qcow2.",
            "done",
            Tone.GOOD,
        ),
        (
            snapshot(S.CONCLUDED, outcome=Outcome.FAILED, error="Input/output error"),
            "Failed: Input/output error. The target is not usable.",
            "error",
            Tone.ERROR,
        ),
        (
            snapshot(S.CONCLUDED, outcome=Outcome.CANCELLED, ready=False),
            "Cancelled. target.qcow2 is incomplete and not usable.",
            "cancel",
            Tone.NEUTRAL,
        ),
        (
            snapshot(S.CONCLUDED, outcome=Outcome.CANCELLED, ready=True),
            "Stopped without completing. Do not rely on target.qcow2.",
            "cancel",
            Tone.NEUTRAL,
        ),
    ],
)
def test_each_state_has_its_words_icon_and_tone(now, text, icon, tone):
    shown = shown_state(now, NAMES)
    assert (shown.text, shown.icon, shown.tone) == (text, icon, tone)


def test_a_copy_that_clients_outrun_says_so():
    shown = shown_state(snapshot(), NAMES, converging=False)
    assert shown.text == "Copying - clients write faster than the copy"
    assert shown.tone is Tone.ATTENTION


@pytest.mark.parametrize("status", list(JobStatus))
def test_every_status_has_words(status):
    shown = shown_state(snapshot(status), NAMES)
    assert shown.text
    assert shown.icon
    assert said(list_text, snapshot(status))


def test_percent_is_rounded_down_so_that_100_means_all():
    assert percent(0.99999) == "99 %"
    assert percent(0.99999, 1) == "99.9 %"
    assert percent(1.0) == "100 %"
    assert percent(0.62) == "62 %"
    assert percent(0.29, 0) == "29 %"


def test_headline_has_one_more_digit_while_copying():
    assert said(headline, snapshot()) == "Copying - 62.0 %"
    assert said(headline, snapshot(S.PAUSED)) == "Paused by you"


def test_in_sync_shows_a_full_bar_only_when_nothing_is_behind():
    assert shown_state(snapshot(S.READY), NAMES).bar is Bar.FULL
    late = snapshot(S.READY, length=1025 * MiB, dirty_bytes=MiB)
    assert shown_state(late, NAMES).bar is Bar.SHARE
    assert shown_state(late, NAMES).share < 1


def test_an_empty_job_is_shown_without_a_division_by_zero():
    empty = snapshot(S.RUNNING, offset=0, length=0, dirty_bytes=0, size=0, chunks=0)
    assert shown_state(empty, NAMES).share == 0
    scanning = snapshot(S.RUNNING, phase=Phase.SCANNING, scan_total=0)
    assert shown_state(scanning, NAMES).share == 0


def title(now, **changes):
    return window_title(now, NAMES, shown_state(now, NAMES), **changes)


def test_titles_begin_with_what_matters_most():
    assert title(snapshot()) == "source.qcow2 → target.qcow2 - 62 % - MirrorGUI"
    assert title(snapshot(), minimised=True) == "62 % source.qcow2"
    assert title(snapshot(S.READY)) == "In sync - complete? source.qcow2"
    assert title(stopped()) == "Stopped: write error at 12.0 GiB - source.qcow2"


@pytest.mark.parametrize("now", [snapshot(), snapshot(S.READY), snapshot(S.NULL)])
def test_a_target_that_was_taken_away_is_said_before_everything_else(now):
    shown = shown_state(now, NAMES, target_loss="/vm2/target.qcow2 was renamed or replaced")
    assert shown.text == "The target is lost: /vm2/target.qcow2 was renamed or replaced."
    assert shown.tone is Tone.ERROR
    assert list_text(now, shown).startswith("stopped")
    assert window_title(now, NAMES, shown).startswith("The target is lost")


def test_a_failure_of_its_own_is_not_hidden_behind_a_loss():
    failed = snapshot(S.NULL, outcome=Outcome.FAILED, error="target was removed")
    assert shown_state(failed, NAMES, target_loss="removed").text.startswith("Failed: target was")


def test_the_list_needs_a_word_or_two():
    assert said(list_text, snapshot()) == "62 %"
    assert said(list_text, snapshot(S.READY)) == "in sync"
    assert said(list_text, snapshot(S.STANDBY)) == "in sync, paused"
    assert said(list_text, snapshot(S.PAUSED)) == "paused, 62 %"
    assert said(list_text, stopped()) == "stopped, 62 %"
    assert said(list_text, snapshot(S.NULL)) == "done, switched"
    assert said(list_text, snapshot(S.NULL, outcome=None)) == "ended"


def test_places_name_offset_and_direction():
    assert failure_place(error(offset=12 * GiB)) == "write error at 12.0 GiB"
    assert failure_place(error(offset=0, operation="read")) == "read error at 0 B"
