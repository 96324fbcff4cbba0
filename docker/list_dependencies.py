"""Print the dependencies of a pyproject.toml, one a line: an image installs them in a layer of their own."""

import sys
import tomllib
from pathlib import Path

print("\n".join(tomllib.loads(Path(sys.argv[1]).read_text())["project"]["dependencies"]))
