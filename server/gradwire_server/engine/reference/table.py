"""The one table of meanings, closed once."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from gradwire_server.engine.graph.opcodes import Opcode
from gradwire_server.engine.reference.arrangement import ARRANGEMENT
from gradwire_server.engine.reference.elementwise import ELEMENTWISE
from gradwire_server.engine.reference.products import PRODUCTS
from gradwire_server.engine.reference.reductions import REDUCTIONS
from gradwire_server.engine.reference.rule import Rule

RULES: Mapping[Opcode, Rule] = MappingProxyType({**ELEMENTWISE, **REDUCTIONS, **PRODUCTS, **ARRANGEMENT})
"""What each op means, by opcode."""
