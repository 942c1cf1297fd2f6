"""A mirror's place among nodes: filter, claims, pivot."""

import pytest

from mirrorgui.errors import JobFailed, NodeError
from mirrorgui.graph.nodes import Graph, from_outside
from mirrorgui.graph.permissions import ALL, Access, Part, Permission, of_export
from mirrorgui.graph.placing import Placement, check_replaces, require_root
from tests.graph.support import READ, SIZE, add, export, stand


@pytest.fixture
def graph() -> Graph:
    graph = Graph()
    add(graph, "s")
    add(graph, "t")
    return graph


def place(graph: Graph, source: str = "s", target: str = "t", **more: str) -> Placement:
    return Placement(graph, graph.find(source), graph.find(target), job_id="j", **more)


def listed(graph: Graph) -> set[str]:
    return {node.name for node in graph}


def test_users_of_the_source_use_the_filter_while_it_is_there(graph: Graph) -> None:
    guest = export(graph, graph.find("s"), writable=True)
    placed = place(graph, filter_name="F")
    assert guest.node.name == "F"
    assert graph.find("F").driver == "mirror_top"
    placed.leave()
    assert guest.node.name == "s"
    assert listed(graph) == {"s", "t"}
    assert graph.take_unused() == []
    placed.leave()


def test_an_end_in_use_by_a_mirror_is_busy_and_no_root(graph: Graph) -> None:
    placed = place(graph)
    for name in ("s", "t"):
        with pytest.raises(NodeError, match="Need a root block node"):
            require_root(graph.find(name))
        with pytest.raises(NodeError, match="block device is in use by block job: mirror"):
            graph.find(name).require_not_busy()
    placed.leave()
    for name in ("s", "t"):
        require_root(graph.find(name))
        graph.find(name).require_not_busy()


def test_a_target_that_others_read_is_refused_and_nothing_stays(graph: Graph) -> None:
    guest = export(graph, graph.find("s"))
    export(graph, graph.find("t"))
    with pytest.raises(NodeError, match="Permission conflict on node 't'"):
        place(graph)
    assert guest.node.name == "s"
    assert listed(graph) == {"s", "t"}
    assert [user.role for user in graph.find("t").users] == ["root"]
    assert graph.find("s").busy == ""


def test_a_pivot_moves_every_user_and_requests_follow(graph: Graph) -> None:
    source, target = graph.find("s"), graph.find("t")
    before = export(graph, source, writable=True)
    door = source.door
    placed = place(graph)
    during = export(graph, source)
    assert during.node.door is door
    above = add(graph, "above")
    stand(graph, above, source)
    placed.pivot()
    placed.leave()
    assert {before.node, during.node, above.child("file")} == {target}
    assert target.door is door and door.node is target.node
    assert source.users == [] and source.door.node is source.node
    door.write(0, b"x" * 512)
    link = above.children[0].link
    assert link is not None
    found = bytearray(512)
    link.read_into(0, found)
    assert found == b"x" * 512
    source.node.read_into(0, found)
    assert found == bytes(512)


def test_a_mirror_back_leads_the_same_guests_home(graph: Graph) -> None:
    source = graph.find("s")
    guest = export(graph, source, writable=True)
    door = source.door
    for one, other in (("s", "t"), ("t", "s")):
        placed = place(graph, one, other)
        assert placed.drive is door
        placed.pivot()
        placed.leave()
    assert guest.node is source
    assert door.node is source.node


def test_a_source_that_nobody_holds_goes_after_the_pivot(graph: Graph) -> None:
    graph.find("s").by_monitor = False
    export(graph, graph.find("s"))
    placed = place(graph)
    placed.pivot()
    assert "s" in graph
    placed.leave()
    assert listed(graph) == {"t"}
    assert [node.name for node in graph.take_unused()] == ["s"]


def test_a_target_that_nobody_holds_goes_without_a_pivot(graph: Graph) -> None:
    graph.find("t").by_monitor = False
    place(graph).leave()
    assert listed(graph) == {"s"}


def test_a_pivot_that_users_do_not_allow_leaves_all_where_they_are(
    graph: Graph, caplog: pytest.LogCaptureFixture
) -> None:
    source, target = graph.find("s"), graph.find("t")
    unsharing, taking = add(graph, "dp", driver="blkdebug"), add(graph, "sp", driver="blkdebug")
    stand(graph, unsharing, target, "image", access=Access(share=ALL & ~READ.need))
    placed = place(graph, filter_name="F")
    guest = export(graph, source)
    graph.detach(guest)
    stand(graph, taking, source, "image", access=READ)
    with pytest.raises(JobFailed, match=r"^Operation not permitted$"):
        placed.pivot()
    assert "required by node 'sp'" in caplog.text
    assert taking.child("image") is source
    assert placed.drive.node is source.node
    placed.leave()
    assert listed(graph) == {"s", "t", "sp", "dp"}


def test_the_target_may_stand_on_the_source(graph: Graph) -> None:
    source, target = graph.find("s"), graph.find("t")
    guest = export(graph, source)
    placed = place(graph)
    target.node.backing = source.node
    placed.pivot()
    placed.leave()
    assert target.child("backing") is source
    assert guest.node is target


def test_only_what_is_shown_as_it_is_can_be_replaced(graph: Graph) -> None:
    source, below, raw = graph.find("s"), add(graph, "below"), add(graph, "raw")
    source.driver = "blkdebug"
    stand(graph, source, below, "image")
    stand(graph, below, raw)
    assert check_replaces(graph, source, "s") is source
    assert check_replaces(graph, source, "below") is below
    for name in ("raw", "t"):
        with pytest.raises(NodeError, match=f"^Cannot replace '{name}' by a node mirrored from"):
            check_replaces(graph, source, name)
    with pytest.raises(NodeError, match="Failed to find node with node-name='x'"):
        check_replaces(graph, source, "x")


def test_a_child_of_a_filter_is_replaced(graph: Graph) -> None:
    source, below, target = graph.find("s"), add(graph, "below"), graph.find("t")
    source.driver = "blkdebug"
    user = stand(graph, source, below, "image")
    placed = Placement(graph, source, target, job_id="j", replaces=below)
    placed.pivot()
    placed.leave()
    assert source.child("image") is target
    assert user.link is not None and user.link.child is target.node
    assert placed.drive.node is source.node
    assert below.users == []


def test_a_writer_beside_the_job_is_allowed_on_the_source_only(graph: Graph) -> None:
    placed = place(graph)
    graph.attach(from_outside(graph.find("s"), of_export(writable=True)))
    with pytest.raises(NodeError, match="Permission conflict"):
        graph.attach(from_outside(graph.find("t"), Access(Permission.WRITE)))
    above = add(graph, "above")
    stand(graph, above, graph.find("t"), part=Part.FILTERED)
    placed.leave()
    assert graph.find("t").node.size == SIZE
