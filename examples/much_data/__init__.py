"""A logistic loss over more data than fits in memory, minimized by SciPy."""
