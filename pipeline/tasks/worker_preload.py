"""What a worker of the embedded cluster does before its first task, while others have work or Ray still starts.

Ray imports this module into its workers (`RAY_preload_python_modules`).
"""

from importlib import import_module

import numpy as np

import tokenmill.pipeline.tasks.task  # noqa: F401  (what every task is made of)
from tokenmill.stages.registry import KINDS
from tokenmill.stages.text.utf8 import character_classes, eight_bytes

for place in KINDS.values():
    import_module(place.partition(":")[0])
character_classes()
eight_bytes(np.zeros(8, np.uint8), 0)  # the first compiled call of a process takes numba 0.4 s
