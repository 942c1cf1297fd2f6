"""Policies: what an error leads to."""

import errno

import pytest

from mirrorgui.mirror.options import ErrorPolicy
from mirrorgui.mirror.policy import Action, decide, io_status


@pytest.mark.parametrize(
    ("policy", "eio", "enospc"),
    [
        ("report", "report", "report"),
        ("ignore", "ignore", "ignore"),
        ("stop", "stop", "stop"),
        ("enospc", "report", "stop"),
        ("auto", "report", "stop"),
    ],
)
def test_every_policy_answers_every_error(policy: str, eio: str, enospc: str) -> None:
    assert decide(ErrorPolicy(policy), errno.EIO) is Action(eio)
    assert decide(ErrorPolicy(policy), errno.ENOSPC) is Action(enospc)


def test_the_io_status_tells_a_full_disk_from_the_rest() -> None:
    assert io_status(errno.ENOSPC) == "nospace"
    assert io_status(errno.EIO) == io_status(errno.EDQUOT) == "failed"
