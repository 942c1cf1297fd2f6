import errno
import os

import pytest

from mirrorgui.errors import (
    BlockIOError,
    ImageRefused,
    InvalidInput,
    JobFailed,
    MirrorGUIError,
    RequestCancelled,
    StateError,
)


@pytest.mark.parametrize(
    ("child", "parent"),
    [
        (InvalidInput, MirrorGUIError),
        (ImageRefused, InvalidInput),
        (BlockIOError, MirrorGUIError),
        (RequestCancelled, BlockIOError),
        (StateError, MirrorGUIError),
        (JobFailed, MirrorGUIError),
    ],
)
def test_the_tree_is_as_it_is_drawn(child: type, parent: type) -> None:
    assert child.__bases__ == (parent,)


def test_a_job_error_is_never_taken_for_an_operating_system_error() -> None:
    assert not issubclass(MirrorGUIError, OSError)


def test_a_refused_value_names_field_value_and_reason() -> None:
    error = InvalidInput("granularity", 1000, "not a power of two")
    assert str(error) == "granularity: '1000': not a power of two"
    assert (error.field, error.value, error.reason) == ("granularity", 1000, "not a power of two")


def test_a_failed_request_says_what_where_and_why() -> None:
    error = BlockIOError("write", 65536, 4096, errno.ENOSPC, "target.raw")
    assert str(error) == f"write of target.raw at 65536 (+4096): {os.strerror(errno.ENOSPC)}"
    assert error.strerror == os.strerror(errno.ENOSPC)


def test_a_failed_flush_has_no_place() -> None:
    assert str(BlockIOError("flush", 0, 0, errno.EIO)) == f"flush: {os.strerror(errno.EIO)}"


def test_an_unknown_error_number_becomes_an_io_error() -> None:
    assert BlockIOError("read", 0, 512, 0).errno == errno.EIO


@pytest.mark.parametrize(
    ("operation", "is_read"),
    [
        ("read", True),
        ("extents", True),
        ("write", False),
        ("write_zeroes", False),
        ("discard", False),
        ("flush", False),
    ],
)
def test_the_source_policy_applies_to_reads_only(operation: str, is_read: bool) -> None:
    assert BlockIOError(operation, 0, 512, errno.EIO).is_read is is_read


def test_a_request_given_up_on_demand_is_told_from_one_that_failed() -> None:
    error = RequestCancelled("read", 512, 1024, "source")
    assert isinstance(error, BlockIOError)
    assert (error.operation, error.offset, error.length) == ("read", 512, 1024)
    assert (error.errno, error.node) == (errno.ECANCELED, "source")


def test_a_verb_at_the_wrong_time_is_refused_in_qemus_words() -> None:
    error = StateError("job0", "complete", "running", ["ready"])
    assert str(error) == "Job 'job0' in state 'running' cannot accept command verb 'complete'"
    assert error.allowed == ("ready",)
    assert (error.job_id, error.verb, error.status) == ("job0", "complete", "running")


def test_a_verb_may_be_refused_in_other_words() -> None:
    assert str(StateError("job0", "complete", "running", (), "not in sync yet")) == (
        "not in sync yet"
    )
