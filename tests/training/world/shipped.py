"""Changed copies of the shipped fact files, for tests of what the readers refuse."""

import json

from training.world.facts import FACTS


def shipped(name):
    """A shipped fact file, parsed anew: free to be changed."""
    return json.loads((FACTS / name).read_text(encoding="utf-8"))


def write(path, entry):
    path.write_text(json.dumps(entry), encoding="utf-8")
    return path
