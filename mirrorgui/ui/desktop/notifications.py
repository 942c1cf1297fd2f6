"""Notifications of the desktop (org.freedesktop.Notifications). Free of Qt; belongs to the loop."""

import logging
from collections.abc import Callable

from jeepney.low_level import HeaderFields, Message
from jeepney.wrappers import DBusAddress

from mirrorgui.ui.desktop.bus import Bus, BusError, session_socket

logger = logging.getLogger(__name__)

NAME = "org.freedesktop.Notifications"
_SERVICE = DBusAddress("/org/freedesktop/Notifications", NAME, NAME)

NORMAL, CRITICAL = 1, 2
"""Urgencies; a critical one stays until somebody has seen it."""

Clicked = Callable[[int], None]


class Notifications:
    """Shows one notification for each subject, a newer one in place of the older.

    Args:
        clicked: called on the loop with the subject of a notification that was clicked.
        application: the application's name for people.
        entry: name of its desktop file.
    """

    def __init__(self, clicked: Clicked, application: str, entry: str) -> None:
        self._clicked = clicked
        self._application = application
        self._entry = entry
        self._bus = Bus(self._heard)
        self._shown: dict[int, int] = {}
        """The desktop's numbers of notifications, by subject."""

    async def show(self, subject: int, title: str, text: str, *, urgent: bool, action: str) -> bool:
        """Show a notification; False where there is nobody to show it.

        Args:
            subject: what it is about.
            title: what happened, plain text.
            text: more about it, plain text.
            urgent: it should not go away by itself.
            action: what a click does, in words.
        """
        hints = {
            "urgency": ("y", CRITICAL if urgent else NORMAL),
            "desktop-entry": ("s", self._entry),
        }
        try:
            answer = await self._call(
                "Notify",
                "susssasa{sv}i",
                self._application,
                self._shown.get(subject, 0),
                self._entry,
                title,
                _escaped(text),
                ["default", action],
                hints,
                -1,
            )
        except BusError as error:
            logger.info("no notification: %s", error)
            return False
        if answer and isinstance(answer[0], int):
            self._shown[subject] = answer[0]
        return True

    async def withdraw(self) -> None:
        """Take back every notification that stands, as far as that is possible."""
        numbers = list(self._shown.values())
        self._shown.clear()
        for number in numbers:
            try:
                await self._call("CloseNotification", "u", number)
            except BusError as error:
                logger.info("notification %d stays: %s", number, error)

    async def close(self) -> None:
        """Leave the bus; what is shown stays."""
        await self._bus.close()

    async def _call(self, member: str, signature: str, *values: object) -> tuple[object, ...]:
        if not self._bus.is_open:
            path = session_socket()
            if path is None:
                raise BusError("there is no session bus")
            await self._bus.open(path)
            await self._bus.listen(NAME)
        return await self._bus.call(_SERVICE, member, signature, values)

    def _heard(self, message: Message) -> None:
        fields = message.header.fields
        if fields.get(HeaderFields.interface) != NAME or not message.body:
            return
        number, member = message.body[0], fields.get(HeaderFields.member)
        subject = next((one for one, each in self._shown.items() if each == number), None)
        if subject is None:
            return
        if member == "NotificationClosed":
            del self._shown[subject]
        elif member == "ActionInvoked":
            self._clicked(subject)


def _escaped(text: str) -> str:
    """Write a text for a place where simple markup is read."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
