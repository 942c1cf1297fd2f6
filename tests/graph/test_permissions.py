"""Who may use a node together with whom."""

import pytest

from mirrorgui.graph.permissions import (
    ALL,
    OF_MIRROR_TARGET,
    Access,
    Part,
    Permission,
    by_names,
    of_export,
)

READ, WRITE, RESIZE = Permission.CONSISTENT_READ, Permission.WRITE, Permission.RESIZE


def test_permissions_are_named_as_in_qemu() -> None:
    assert (READ | WRITE).text == "consistent read, write"
    assert ALL.text == "consistent read, write, write unchanged, resize"
    assert by_names(["consistent-read", "write-unchanged"]) == READ | Permission.WRITE_UNCHANGED


def test_users_together_need_what_any_needs_and_share_what_all_share() -> None:
    joined = Access(READ, ALL & ~RESIZE).joined(Access(WRITE, ALL & ~READ))
    assert joined == Access(READ | WRITE, ALL & ~RESIZE & ~READ)


def test_an_export_lets_everybody_write_but_nobody_resize() -> None:
    assert of_export(writable=False) == Access(READ, ALL & ~RESIZE)
    assert of_export(writable=True).need == READ | WRITE


def test_nobody_may_read_an_incomplete_copy() -> None:
    assert READ not in OF_MIRROR_TARGET.share
    assert WRITE not in OF_MIRROR_TARGET.share


@pytest.mark.parametrize("writable", [True, False])
def test_a_format_writes_its_file_itself_when_it_is_writable(writable: bool) -> None:
    passed = Part.FORMAT.pass_on(Access(), writable=writable)
    assert passed.need == (READ | WRITE | RESIZE if writable else READ)
    assert passed.share == ALL & ~WRITE & ~RESIZE


def test_a_filter_passes_everything_on() -> None:
    above = Access(READ | RESIZE, ALL & ~WRITE)
    assert Part.FILTERED.pass_on(above, writable=True) == above


def test_a_window_on_a_file_keeps_it_as_long_as_it_is() -> None:
    assert Part.STORAGE.pass_on(Access(WRITE, ALL), writable=True) == Access(WRITE, ALL & ~RESIZE)


def test_a_backing_node_is_read_only_and_may_change_where_the_node_above_may() -> None:
    alone = Part.BACKING.pass_on(Access(READ | WRITE, ALL & ~WRITE), writable=True)
    assert alone.need == READ
    assert WRITE not in alone.share
    assert WRITE in Part.BACKING.pass_on(Access(), writable=True).share
