"""What ``query-qmp-schema`` tells; ``peers`` holds every reply and event of ours against it."""

from typing import Any

import pytest

from mirrorgui.qmp.schema_answers import EVENTS, RETURNS, kind_of
from tests.qmp.peers import Peer
from tests.qmp.scripts import MiB, img, play_on_both, without
from tests.qmp.told import Shape, Told

pytestmark = pytest.mark.interop

Peers = tuple[Peer, Peer]

LATER = {"actively-synced"}
"""Members that came after 7.2."""


def told(peer: Peer) -> Told:
    return Told(peer.ok("query-qmp-schema"))


def require_part_of(own: Shape, theirs: Shape, place: str) -> None:
    """See that whoever can read theirs can read ours."""
    if isinstance(own, list):
        assert isinstance(theirs, list), place
        require_part_of(own[0], theirs[0], f"{place}[]")
    elif isinstance(own, dict) and "words" in own:
        assert own["words"] <= theirs["words"], place
    elif isinstance(own, dict):
        _require_members(own["members"], theirs["members"], place)
        for case, branch in own["branches"].items():
            require_part_of(branch, theirs["branches"][case], f"{place}/{case}")
    else:
        assert own == theirs, place


def _require_members(own: dict[str, Any], theirs: dict[str, Any], place: str) -> None:
    for name, (always, shape) in own.items():
        if name not in LATER:
            assert name in theirs, f"{place}.{name}"
            require_part_of(shape, theirs[name][1], f"{place}.{name}")
            assert always or not theirs[name][0], f"{place}.{name} may be missing"
    missing = {name for name, (always, _) in theirs.items() if always} - set(own)
    assert not missing, place


def test_answers_and_events_are_told_as_by_qemu(peers: Peers) -> None:
    theirs, own = (told(peer) for peer in peers)
    for command in own.commands:
        if command in theirs.commands:
            require_part_of(own.returned(command), theirs.returned(command), command)
    for event in own.events:
        if event in theirs.events:
            require_part_of(own.held(event), theirs.held(event), event)
    assert set(own.commands) - set(theirs.commands) == {"block-job-change", "x-mirror-snapshot"}
    assert set(own.events) - set(theirs.events) == {"JOB_COMPLETE_REFUSED"}


def test_every_name_that_is_used_is_told(ours: Peer) -> None:
    schema = ours.ok("query-qmp-schema")
    names = [each["name"] for each in schema]
    assert len(set(names)) == len(names)
    assert set(RETURNS) | set(EVENTS) <= set(names)
    for each in schema:
        used = [each.get(key) for key in ("arg-type", "ret-type", "element-type")]
        used += [member.get("type") for member in each.get("members", ())]
        used += [variant["type"] for variant in each.get("variants", ())]
        assert set(filter(None, used)) <= set(names), each


def test_what_is_not_told_is_noticed(ours: Peer) -> None:
    known = told(ours)
    job = {"id": "j", "type": "mirror", "status": "null", "current-progress": 0}
    known.require_answer("query-jobs", [{**job, "total-progress": 1}])
    for wrong in (
        job,
        {**job, "total-progress": "1"},
        {**job, "total-progress": True},
        {**job, "total-progress": 1, "status": "asleep"},
        {**job, "total-progress": 1, "speed": 1},
    ):
        with pytest.raises(AssertionError):
            known.require_answer("query-jobs", [wrong])
    with pytest.raises(AssertionError):
        known.require_event({"event": "JOB_STATUS_CHANGE", "data": {"id": "j"}})
    with pytest.raises(AssertionError):
        known.require_event({"event": "RESET"})


def test_a_type_that_json_has_not_is_noticed() -> None:
    with pytest.raises(TypeError):
        kind_of(complex)


@pytest.mark.parametrize("options", ["compat=0.10", "compat=1.1", "lazy_refcounts=on"])
def test_all_that_is_told_of_a_qcow2_image(peers: Peers, options: str) -> None:
    """Snapshots and bitmaps included."""

    def script(peer: Peer) -> None:
        img(peer, "create", "-q", "-f", "qcow2", "-o", options, "base.qcow2", MiB)
        img(peer, "snapshot", "-c", "kept", "base.qcow2")
        below = ["-b", "base.qcow2", "-F", "qcow2"]
        img(peer, "create", "-q", "-f", "qcow2", "-o", options, *below, "top.qcow2", MiB)
        if "0.10" not in options:
            img(peer, "bitmap", "--add", "top.qcow2", "writes")
        file = {"driver": "file", "filename": "top.qcow2", "node-name": "file"}
        peer.ok("blockdev-add", driver="qcow2", node_name="top", file=file, read_only=True)
        shown = peer.asked("query-named-block-nodes")
        (image,) = [node["image"] for node in shown if node["node-name"] == "top"]
        peer.messages.append({"return": image, "id": ""})

    times = without("date-sec", "date-nsec", "actual-size")
    play_on_both(peers, script, times)
