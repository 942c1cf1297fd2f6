"""A desktop's notification service for tests, on a real bus: says as JSON lines what it was asked.

Run by the system's Python, with dbus-python and PyGObject. A line on stdin is the number of a
notification that a person clicks.
"""

import json
import sys

import dbus
import dbus.mainloop.glib
import dbus.service
from gi.repository import GLib

NAME = "org.freedesktop.Notifications"


class Service(dbus.service.Object):
    def __init__(self, bus):
        super().__init__(bus, "/org/freedesktop/Notifications")
        self.count = 0

    def say(self, **fields):
        print(json.dumps(fields), flush=True)

    @dbus.service.method(
        NAME, in_signature="susssasa{sv}i", out_signature="u", message_keyword="message"
    )
    def Notify(self, app, replaces, icon, title, text, actions, hints, timeout, message):
        self.count += 1
        number = int(replaces) or self.count
        self.say(
            signature=message.get_signature(),
            number=number,
            replaces=int(replaces),
            app=str(app),
            icon=str(icon),
            title=str(title),
            text=str(text),
            actions=[str(each) for each in actions],
            urgency=int(hints["urgency"]),
            urgency_type=type(hints["urgency"]).__name__,
            entry=str(hints["desktop-entry"]),
            timeout=int(timeout),
        )
        return number

    @dbus.service.method(NAME, in_signature="u")
    def CloseNotification(self, number):
        self.say(closed=int(number))
        self.NotificationClosed(number, 3)

    @dbus.service.signal(NAME, signature="uu")
    def NotificationClosed(self, number, reason):
        pass

    @dbus.service.signal(NAME, signature="us")
    def ActionInvoked(self, number, action):
        pass


def main():
    dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
    bus = dbus.SessionBus()
    service = Service(bus)
    name = dbus.service.BusName(NAME, bus)
    loop = GLib.MainLoop()

    def clicked(source, _condition):
        line = source.readline()
        if not line:
            loop.quit()
            return False
        service.ActionInvoked(dbus.UInt32(int(line)), "default")
        return True

    GLib.io_add_watch(sys.stdin, GLib.IO_IN | GLib.IO_HUP, clicked)
    service.say(ready=name.get_name())
    loop.run()


main()
