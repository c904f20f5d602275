"""Tests; `tests/benchmarks` holds measurements, which pytest does not collect."""

import os

# several tests run at once, and torch's threads, waiting for each other on shared processors, lose a factor of ten
os.environ.setdefault("OMP_NUM_THREADS", "1")
