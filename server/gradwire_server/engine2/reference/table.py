"""The one table of meanings, closed once."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from gradwire_server.engine2.graph.opcodes import Opcode
from gradwire_server.engine2.reference.arrangement import ARRANGEMENT
from gradwire_server.engine2.reference.elementwise import ELEMENTWISE
from gradwire_server.engine2.reference.products import PRODUCTS
from gradwire_server.engine2.reference.reductions import REDUCTIONS
from gradwire_server.engine2.reference.rule import Rule

RULES: Mapping[Opcode, Rule] = MappingProxyType({**ELEMENTWISE, **REDUCTIONS, **PRODUCTS, **ARRANGEMENT})
"""What each op means, by opcode."""
