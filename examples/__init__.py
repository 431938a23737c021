"""Losses that people train with: ``python -m examples.dpo``, or with a server, ``python -m examples.dpo HOST:PORT``."""
