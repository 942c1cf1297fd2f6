"""Run by a frozen program before anything else: stands in for Qt's OpenGL modules.

pyqtgraph imports them whenever it is imported, and uses them only where it was told to draw with
OpenGL, which the window never does. They are 10 MB.
"""

import sys
from types import ModuleType


def _stand_in(name: str) -> object:
    """Return what pyqtgraph derives its widget from; called when the module is asked for it."""
    if name != "QOpenGLWidget":
        raise AttributeError(name)
    from PySide6.QtWidgets import QWidget

    return QWidget


for module in (ModuleType("PySide6.QtOpenGL"), ModuleType("PySide6.QtOpenGLWidgets")):
    module.__getattr__ = _stand_in  # type: ignore[method-assign]
    sys.modules[module.__name__] = module
