"""The exit codes of `tokenmill` and of `python -m tokenmill.model.train`."""

DONE = 0
FAILED = 1
WRONG_USAGE = 2
INPUT_FAILED = 3
"""The run finished, but some of its input could not be read."""
INTERRUPTED = 130
"""128 + SIGINT, as shells have it; running the same command again resumes."""
