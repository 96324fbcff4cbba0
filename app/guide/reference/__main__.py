"""``python -m app.guide.reference [DIRECTORY]``: write the reference pages, by default into docs/reference."""

from __future__ import annotations

import sys
from pathlib import Path

from app.guide.reference import write_pages

if __name__ == "__main__":
    write_pages(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("docs/reference"))
