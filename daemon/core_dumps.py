"""No core dumps: the memory of a process that crashes holds images and names."""

import resource
from typing import Final

#: getrlimit(2): 0 still lets a core go to a program where core_pattern names one (core(5)); 1 byte stops that too, in
#: the kernel's fs/coredump.c, and is below the smallest core file.
LIMIT_BYTES: Final = 1


def forbid_core_dumps() -> None:
    """Leave no core when this process, or one that it starts, crashes."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (LIMIT_BYTES if hard else 0, hard))
