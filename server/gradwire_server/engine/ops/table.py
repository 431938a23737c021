"""The one table of ops, closed once. An op is one entry; nothing else in the engine knows their names."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from gradwire_server.engine.ops.arrangement import ARRANGEMENT
from gradwire_server.engine.ops.elementwise import ELEMENTWISE
from gradwire_server.engine.ops.op import Op
from gradwire_server.engine.ops.products import PRODUCTS
from gradwire_server.engine.ops.reductions import REDUCTIONS
from gradwire_server.engine.ops.scalars import SCALARS

OPS: Mapping[str, Op] = MappingProxyType(
    {op.name: op for op in (*ELEMENTWISE, *REDUCTIONS, *PRODUCTS, *ARRANGEMENT, SCALARS)}
)
"""Every op by its name."""
