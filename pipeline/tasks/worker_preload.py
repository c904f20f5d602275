"""What a worker of the embedded cluster does before its first task, while others work or Ray still starts.

Ray imports this module into its workers (`RAY_preload_python_modules`).
"""

import tokenmill.pipeline.tasks.task  # noqa: F401  (what every task is made of)
from tokenmill.stages.registry import preload

preload()
