"""Where pickles of expressions look for what builds them again: a name that stays, wherever it is written."""

from gradwire._expressions.expression import _rebuilt

__all__ = ["_rebuilt"]
