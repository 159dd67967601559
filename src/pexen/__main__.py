"""``python -m pexen`` is ``pexen``."""

from __future__ import annotations

import sys

from pexen.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
