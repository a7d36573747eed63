"""An interpreter in which only some of the installed distributions can be imported.

Python imports a module of this name at its start, where its folder is on the path; without the
environment variable it does nothing.
"""

import os
import sys
from importlib.machinery import PathFinder


class _OnlyAllowed(PathFinder):
    """Finds what is on the path, but for the modules that the variable names."""

    hidden = frozenset(os.environ.get("TWOTOWER_HIDDEN_MODULES", "").split())

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        if fullname.partition(".")[0] in cls.hidden:
            return None
        return super().find_spec(fullname, path, target)


if _OnlyAllowed.hidden:
    sys.meta_path[sys.meta_path.index(PathFinder)] = _OnlyAllowed
