from mirrorgui.mirror.snapshot import Outcome
from mirrorgui.mirror.states import JobStatus
from mirrorgui.ui.models.error_groups import group_errors, policy_text, state_text
from mirrorgui.ui.models.errors import as_csv, as_text
from mirrorgui.units import GiB, KiB, MiB
from tests.ui.fakes import error, snapshot, stopped


def bad(count, start=12 * GiB, step=128 * KiB, **changes):
    return tuple(error(start + n * step, 64 * KiB, "read", **changes) for n in range(count))


def test_neighbours_of_one_kind_are_one_group():
    groups = group_errors(bad(37))
    assert len(groups) == 1
    assert groups[0].summary == "37 read errors from 12.0 GiB to 12.0 GiB"
    assert groups[0].offset == 12 * GiB
    assert groups[0].length == 36 * 128 * KiB + 64 * KiB
    assert groups[0].tries == 37


def test_far_places_and_other_kinds_stay_apart():
    assert len(group_errors((*bad(2), *bad(1, start=20 * GiB)))) == 2
    assert len(group_errors((*bad(2), error(12 * GiB, 64 * KiB)))) == 2
    assert len(group_errors((*bad(1), *bad(1, start=12 * GiB + MiB, solved=True)))) == 2
    assert len(group_errors((error(0, 0), error(0, 4096)))) == 2


def test_order_does_not_matter():
    assert group_errors(tuple(reversed(bad(5)))) == group_errors(bad(5))


def test_single_places_and_flushes_have_their_words():
    assert group_errors((error(),))[0].summary == "1 write error at 12.0 GiB"
    flush = group_errors((error(0, 0, tries=3),))[0]
    assert flush.summary == "3 flush errors"
    assert flush.direction == "flush target"


def test_states_of_a_place():
    stop = group_errors((error(),))[0]
    solved = group_errors((error(solved=True),))[0]
    skipped = group_errors((error(action="ignore"),))[0]
    fatal = group_errors((error(action="report"),))[0]
    assert state_text(stop, stopped()) == "waiting"
    assert state_text(stop, snapshot()) == "retrying"
    assert state_text(skipped, snapshot()) == "retrying"
    assert state_text(solved, stopped()) == "solved"
    assert state_text(fatal, snapshot()) == "not solved"
    over = snapshot(JobStatus.NULL, outcome=Outcome.FAILED)
    assert state_text(stop, over) == "not solved"


def test_policies_in_words():
    assert policy_text("report") == "reported, ended"
    assert policy_text("ignore") == "skipped for now"
    assert policy_text("stop") == "stopped"


def test_csv_has_exact_bytes_and_utc():
    lines = as_csv((error(message='a "b", c'),)).splitlines()
    assert lines[0].startswith("first_time,last_time,operation,offset,length,errno")
    assert lines[1].startswith("2023-11-14T22:13:20.000+00:00,")
    assert f",{12 * GiB},{MiB},5," in lines[1]
    assert '"a ""b"", c"' in lines[1]


def test_text_for_the_clipboard():
    text = as_text(group_errors((error(),)), stopped())
    assert text == (
        "1 write error at 12.0 GiB: Input/output error (offset 12884901888, length 1048576, "
        "tries 1, waiting)"
    )
