"""Several processes of pytest (-n) share the processors: one thread each, where a test does not say how many."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
