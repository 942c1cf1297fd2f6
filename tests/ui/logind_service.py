"""A login manager for tests, on a real bus: grants inhibitor locks and says who holds them.

Run by the system's Python, with dbus-python and PyGObject; ends with its standard input.
"""

import json
import os
import sys

import dbus
import dbus.bus
import dbus.mainloop.glib
import dbus.service
from gi.repository import GLib

MANAGER = "org.freedesktop.login1.Manager"


def say(**fields):
    print(json.dumps(fields), flush=True)


class Service(dbus.service.Object):
    @dbus.service.method(MANAGER, in_signature="ssss", out_signature="h")
    def Inhibit(self, what, who, why, mode):
        ours, theirs = os.pipe()
        say(what=str(what), who=str(who), why=str(why), mode=str(mode))
        GLib.io_add_watch(ours, GLib.IO_HUP, self.released)
        handle = dbus.types.UnixFd(theirs)
        os.close(theirs)
        return handle

    def released(self, _descriptor, _condition):
        say(released=True)
        return False


def main():
    dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
    bus = dbus.SystemBus()
    Service(bus, "/org/freedesktop/login1")
    name = dbus.service.BusName("org.freedesktop.login1", bus)
    loop = GLib.MainLoop()
    GLib.io_add_watch(sys.stdin, GLib.IO_HUP, lambda *_: loop.quit())
    say(ready=name.get_name())
    loop.run()


main()
