"""Devices in front of people: so that nobody erases the wrong one. Free of Qt."""

from mirrorgui.block.devices import BlockDevice
from mirrorgui.ui.i18n import tr
from mirrorgui.units import format_size


def device_name(device: BlockDevice) -> str:
    """Name a device by its model, or by its path where it has none."""
    return device.model or device.path


def device_line(device: BlockDevice) -> str:
    """Describe a device in one line: ``/dev/sdb - Kingston DT, 28.9 GiB, serial 1234, in use``."""
    parts = [format_size(device.size)]
    if device.model:
        parts.insert(0, device.model)
    if device.serial:
        parts.append(tr("serial {serial}", serial=device.serial))
    if device.system:
        parts.append(tr("this computer's system"))
    elif device.uses:
        parts.append(tr("in use"))
    elif device.read_only:
        parts.append(tr("read only"))
    return f"{device.path} - {', '.join(parts)}"


def erase_title(device: BlockDevice) -> str:
    """Ask whether a device is to be erased."""
    return tr("Erase {model}?", model=device_name(device))


def same_device(before: BlockDevice, now: BlockDevice | None) -> bool:
    """Say whether a device is still the one that was chosen: not another one at its path."""
    if now is None:
        return False
    identity = ("path", "number", "model", "serial", "size")
    return all(getattr(before, name) == getattr(now, name) for name in identity)


def gone_text() -> str:
    """Say that a chosen device is not there any more."""
    return tr("The device chosen before is gone. Choose the target again.")
