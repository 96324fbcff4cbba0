"""Print the dependencies of a pyproject.toml, one a line: an image installs them in a layer of their own.

``qpruner-client`` is left out: it lies in this repository, and its own dependencies are among those of the service.
"""

import sys
import tomllib
from pathlib import Path

dependencies = tomllib.loads(Path(sys.argv[1]).read_text())["project"]["dependencies"]
print("\n".join(one for one in dependencies if not one.startswith("qpruner-client")))
