"""`python tests/soak`: see `--help`."""

import sys
from pathlib import Path


def _run() -> int:
    # Python put this folder in front; what the tests share lies one above.
    sys.path[0] = str(Path(__file__).parents[1])
    from soak.command import main  # noqa: PLC0415 - found only now

    return main()


if __name__ == "__main__":
    sys.exit(_run())
