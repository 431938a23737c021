"""Columns of the kernel's rows, as whoever writes rows and whoever walks them know them."""

from __future__ import annotations

COLUMNS = 14
OPCODE, COUNT, OUT, OUT_ADJOINT = range(4)
"""Columns of a row: what to do, with how many elements, where their values go, and where their gradients are."""

A, B, OPERAND = 4, 9, 5
"""Where the columns of each operand begin, of which each has five; of a row on one operand the second is NOWHERE."""

SHARED, BASE, STRIDE, ADJOINT, ADJOINT_STRIDE = range(5)
"""Columns of an operand: whether all lanes share it; its first element, and the step to the next; the same for its
gradient. With the stride LISTED the base is where, among the lists, its elements are listed. The base NOWHERE says that
there is no such operand, or that it gets no gradient."""

LISTED = -1
NOWHERE = -1
