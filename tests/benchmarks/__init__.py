"""Measurements against other libraries and services: ``make bench``."""

import os

# A kernel that somebody chose for OpenBLAS is not the one that this processor has. It is chosen when NumPy is
# imported, which is later in this process, and in those that this one starts.
os.environ.pop("OPENBLAS_CORETYPE", None)
