"""The rules of blkdebug, as values and as options of ``BlockdevOptionsBlkdebug``."""

import errno as errno_module
import threading
from dataclasses import dataclass
from typing import TypeAlias

from mirrorgui.block.options import Options
from mirrorgui.errors import InvalidInput

SECTOR_SIZE = 512
"""Unit of ``InjectError.sector``, as in QEMU."""

IO_TYPES = ("read", "write", "write-zeroes", "discard", "flush", "block-status")

EVENTS_OF = {
    "read": ("read_aio", "none"),
    "write": ("write_aio", "pwritev", "none"),
    "write-zeroes": ("pwritev_zero", "none"),
    "discard": ("none",),
    "flush": ("flush_to_os", "flush_to_disk", "none"),
    "block-status": ("none",),
}

EVENTS = (
    "read_aio",
    "write_aio",
    "pwritev",
    "pwritev_zero",
    "flush_to_os",
    "flush_to_disk",
    "none",
)
"""The events of QEMU's BlkdebugEvent that can happen here; others belong to its format drivers."""


@dataclass(frozen=True, slots=True)
class InjectError:
    """Fail, delay or hold the requests that match.

    Attributes:
        event: what the request must raise.
        errno: the error; 0 lets the request go on after its delay.
        sector: hit only requests that touch this sector (of 512 bytes); -1 hits all.
        iotype: hit only this kind of request; empty hits all but block-status.
        state: hit only while the node is in this state; 0 hits in any.
        once: forget the rule after its first hit.
        immediately: accepted for QEMU's sake; requests here fail in their caller anyway.
        delay: seconds to wait first.
        hang: wait until ``release`` or ``cancel_in_flight`` instead.
    """

    event: str = "none"
    errno: int = errno_module.EIO
    sector: int = -1
    iotype: str = ""
    state: int = 0
    once: bool = False
    immediately: bool = False
    delay: float = 0.0
    hang: bool = False

    def __post_init__(self) -> None:
        _check_event(self.event)
        if self.iotype and self.iotype not in IO_TYPES:
            raise InvalidInput("iotype", self.iotype, f"must be one of {', '.join(IO_TYPES)}")
        if self.sector < -1:
            raise InvalidInput("sector", self.sector, "must be -1 or a sector number")
        if self.errno < 0:
            raise InvalidInput("errno", self.errno, "must not be negative")
        if not 0 <= self.delay <= threading.TIMEOUT_MAX:
            raise InvalidInput("delay", self.delay, "must be a number of seconds, 0 or more")

    def matches(self, iotype: str, offset: int, length: int) -> bool:
        """Say whether the rule hits a request; its event and state are left aside."""
        if self.iotype != iotype and (self.iotype or iotype == "block-status"):
            return False
        return self.sector < 0 or offset <= self.sector * SECTOR_SIZE < offset + length


@dataclass(frozen=True, slots=True)
class SetState:
    """Move the node to another state when an event is raised.

    Attributes:
        event: the event.
        new_state: the state afterwards.
        state: only when the node is in this state; 0 in any.
    """

    event: str
    new_state: int
    state: int = 0

    def __post_init__(self) -> None:
        _check_event(self.event)


Rule: TypeAlias = InjectError | SetState


def take_rules(options: Options) -> list[Rule]:
    """Take the rules out of a blkdebug node's options.

    Raises:
        InvalidInput: naming the option of the rule.
    """
    rules: list[Rule] = [
        _inject_error(item, f"{options.name_of('inject-error')}.{number}")
        for number, item in enumerate(options.take_list("inject-error"))
    ]
    rules += [
        _set_state(item, f"{options.name_of('set-state')}.{number}")
        for number, item in enumerate(options.take_list("set-state"))
    ]
    return rules


def _inject_error(item: object, name: str) -> InjectError:
    options = _item_options(item, name)
    rule = InjectError(
        event=options.take("event", str),
        errno=options.take("errno", int, errno_module.EIO),
        sector=options.take("sector", int, -1),
        iotype=options.take("iotype", str, ""),
        state=options.take("state", int, 0),
        once=options.take("once", bool, False),
        immediately=options.take("immediately", bool, False),
        delay=options.take("delay", float, 0.0),
        hang=options.take("hang", bool, False),
    )
    options.finish()
    return rule


def _set_state(item: object, name: str) -> SetState:
    options = _item_options(item, name)
    rule = SetState(
        event=options.take("event", str),
        new_state=options.take("new_state", int),
        state=options.take("state", int, 0),
    )
    options.finish()
    return rule


def _item_options(item: object, name: str) -> Options:
    if not isinstance(item, dict):
        raise InvalidInput(name, item, "must be an object")
    return Options(item, name)


def _check_event(event: str) -> None:
    if event not in EVENTS:
        raise InvalidInput("event", event, f"must be one of {', '.join(EVENTS)}")
