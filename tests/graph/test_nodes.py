"""Named nodes: finding, using, deleting."""

import re

import pytest

from mirrorgui.block.blkdebug import BlkdebugNode
from mirrorgui.block.memory import MemoryNode
from mirrorgui.block.raw import RawNode
from mirrorgui.errors import NodeError
from mirrorgui.graph.doors import Link
from mirrorgui.graph.nodes import Graph, from_outside, inmost
from mirrorgui.graph.permissions import OF_MIRROR_TARGET, Access, Part, Permission
from tests.graph.support import SIZE, add, export, stand


@pytest.fixture
def graph() -> Graph:
    return Graph()


def names(graph: Graph) -> list[str]:
    return [node.name for node in graph]


def test_nodes_are_found_by_name_and_listed_the_newest_first(graph: Graph) -> None:
    one, two = add(graph, "one"), add(graph, "two")
    assert graph.find("one") is one
    assert graph.find_device("two") is two
    assert names(graph) == ["two", "one"]


def test_what_is_not_there_is_named_as_in_qemu(graph: Graph) -> None:
    with pytest.raises(NodeError, match=r"^Failed to find node with node-name='x'$"):
        graph.find("x")
    with pytest.raises(NodeError, match=r"^Cannot find device='x' nor node-name='x'$"):
        graph.find_device("x")
    with pytest.raises(NodeError, match=r"^Cannot find device='' nor node-name='x'$"):
        graph.find_device("x", "")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("1a", "Invalid node-name: '1a'"),
        ("", "Invalid node-name: ''"),
        ("#block1", "Invalid node-name: '#block1'"),
        ("one", "Duplicate nodes with node-name='one'"),
        ("a" * 32, "Node name too long"),
    ],
)
def test_names_that_cannot_be_had(graph: Graph, name: str, text: str) -> None:
    add(graph, "one")
    with pytest.raises(NodeError, match=f"^{re.escape(text)}$"):
        graph.check_new_name(name)


def test_automatic_names_are_those_of_qemu_and_never_taken(graph: Graph) -> None:
    made = {graph.automatic_name() for _ in range(50)}
    assert len(made) == 50
    assert all(re.fullmatch(r"#block\d+\d\d", name) for name in made)


def test_a_node_goes_with_its_children_unless_others_use_them(graph: Graph) -> None:
    top, other = add(graph, "top"), add(graph, "other")
    own, shared = add(graph, "own", by_monitor=False), add(graph, "shared", by_monitor=False)
    named = add(graph, "named")
    stand(graph, top, own)
    stand(graph, top, shared, "backing", Part.BACKING)
    stand(graph, top, named, "data-file", Part.STORAGE)
    stand(graph, other, shared)
    graph.require_deletable(top)
    graph.remove(top)
    assert names(graph) == ["named", "shared", "other"]
    assert graph.take_unused() == [top, own]
    assert graph.take_unused() == []


def test_what_is_in_use_is_not_deletable(graph: Graph) -> None:
    top, below = add(graph, "top"), add(graph, "below", by_monitor=False)
    stand(graph, top, below)
    with pytest.raises(NodeError, match=r"^Node below is not owned by the monitor$"):
        graph.require_deletable(below)
    below.by_monitor = True
    with pytest.raises(NodeError, match=r"^Block device below is in use$"):
        graph.require_deletable(below)
    export(graph, below)
    with pytest.raises(NodeError, match=r"^Node below is in use$"):
        graph.require_deletable(below)
    top.busy = "a job"
    with pytest.raises(NodeError, match=r"^Node 'top' is busy: a job$"):
        graph.require_deletable(top)


def test_a_backing_node_is_busy(graph: Graph) -> None:
    top, below = add(graph, "top", driver="qcow2"), add(graph, "below")
    stand(graph, top, below, "backing", Part.BACKING)
    with pytest.raises(NodeError, match="node is used as backing hd of 'top'"):
        graph.require_deletable(below)


def test_users_that_exclude_each_other_are_refused_and_nothing_changes(graph: Graph) -> None:
    node, above = add(graph, "node"), add(graph, "above")
    stand(graph, above, node)
    export(graph, above)
    text = (
        "Permission conflict on node 'node': permissions 'consistent read' are both required by "
        "node 'above' (uses node 'node' as 'file' child) and unshared by an unnamed block device "
        "(uses node 'node' as 'root' child)."
    )
    with pytest.raises(NodeError, match=f"^{re.escape(text)}$"):
        graph.attach(from_outside(node, OF_MIRROR_TARGET))
    assert len(node.users) == 1


def test_a_conflict_further_down_is_found(graph: Graph) -> None:
    node, one, two = (add(graph, name) for name in ("node", "one", "two"))
    stand(graph, one, node, part=Part.FORMAT)
    with pytest.raises(NodeError, match="permissions 'write, resize' are both required"):
        stand(graph, two, node, part=Part.FORMAT)
    assert two.children == []
    stand(graph, two, node)
    with pytest.raises(NodeError, match=r"required by node 'one'.*unshared by node 'two'"):
        export(graph, two, writable=True)


def test_nobody_writes_to_a_read_only_node(graph: Graph) -> None:
    node = add(graph, "node")
    node.node.read_only = True
    with pytest.raises(NodeError, match=r"^Block node is read-only$"):
        graph.attach(from_outside(node, Access(Permission.WRITE)))


def test_a_root_has_only_users_from_outside(graph: Graph) -> None:
    node, above = add(graph, "node"), add(graph, "above")
    user = export(graph, node)
    assert node.is_root
    below = stand(graph, above, node)
    assert not node.is_root
    graph.detach(below)
    graph.detach(user)
    assert node.is_root and "node" in graph


def test_what_others_have_opened_is_shown_and_never_closed(graph: Graph) -> None:
    image = RawNode(BlkdebugNode(MemoryNode(SIZE)))
    top = graph.adopt(image)
    assert [node.driver for node in graph][:2] == ["raw", "blkdebug"]
    below = top.child("file")
    assert below is not None and below.child("image") is not None
    user = export(graph, top)
    graph.detach(user)
    assert len(names(graph)) == 3
    graph.give_up(top)
    assert names(graph) == []
    assert graph.take_unused() == []


def test_a_backing_node_that_was_opened_later_is_shown_once(graph: Graph) -> None:
    top, base = add(graph, "top"), add(graph, "base")
    graph.note_backing(top)
    assert top.child("backing") is None
    top.node.backing = Link(Link(base.node))
    graph.note_backing(top)
    graph.note_backing(top)
    assert top.child("backing") is base
    assert [user.role for user in base.users] == ["backing"]
    assert inmost(top.node.backing) is base.node
