"""Print what pocketseg itself and one of its extras need, a line each: `python scripts/requirements.py docs`.

For set-ups that need the dependencies and not the package, whose installation compiles the engine.
"""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
print(*project["dependencies"], *project["optional-dependencies"][sys.argv[1]], sep="\n")
