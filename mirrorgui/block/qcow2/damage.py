"""What happens when structures turn out to be damaged while the image is in use."""

import errno
import logging

from mirrorgui.block.qcow2.bits import FeatureBits
from mirrorgui.block.qcow2.features import Incompatible
from mirrorgui.errors import BlockIOError

_log = logging.getLogger(__name__)


class Damage:
    """Whether an image was found damaged. From then on it is not changed any more.

    Args:
        name: the image, for messages.
        bits: its header's bits; ``None`` where it is open for reading.

    Attributes:
        text: what was found first; empty while nothing was.
    """

    def __init__(self, name: str, bits: FeatureBits | None) -> None:
        self.text = ""
        self._name = name
        self._bits = bits

    def found(self, operation: str, offset: int, length: int, text: str) -> BlockIOError:
        """Note damage, also in the image itself as QEMU does; return what the request fails with.

        Args:
            operation: the request that came across it.
            offset: its first guest byte.
            length: its length in bytes.
            text: what is wrong.
        """
        error = BlockIOError(operation, offset, length, errno.EIO, self._name, detail=text)
        if not self.text:
            self.text = text
            if self._bits is not None:
                _log.warning("image is damaged and not changed any more: %s", error)
                self._mark(self._bits)
        return error

    def check(self, operation: str, offset: int, length: int) -> None:
        """Refuse a change of an image that was found damaged.

        Raises:
            BlockIOError: EIO.
        """
        if self.text:
            text = f"the image was found damaged: {self.text}"
            raise BlockIOError(operation, offset, length, errno.EIO, self._name, detail=text)

    @staticmethod
    def _mark(bits: FeatureBits) -> None:
        try:
            bits.set(Incompatible.CORRUPT)
        except BlockIOError as error:  # the request fails for the damage, whatever the file says
            _log.warning("the corrupt bit could not be set: %s", error)
