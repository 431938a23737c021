"""Rows of code: what the lowering writes and the machine reads, integers of 64 bits.

A row begins with its kind and its length in integers. A reference to a tensor is four integers: its buffer, its place
there, the offset of its first element behind that, and the distance of two examples. Its address is

* in a buffer of TILE: base + place * lanes + offset, for the lanes of the tile that runs;
* in a buffer of EXAMPLES: base + place + offset + first example of the tile * distance;
* in a FIXED buffer: base + place + offset.

Places, offsets and distances count elements. An integer for a length is followed by one that says whether lanes
multiply it.
"""

from __future__ import annotations

REF = 4
"""Integers of a reference: buffer, place, offset, distance."""

NEST = 6
"""Integers of a loop: its length, whether lanes multiply that, and strides of the result and three operands."""

FIXED, TILE, EXAMPLES = range(3)
"""How a buffer is addressed."""

(
    TENSOR,
    PRODUCT,
    SWARM,
    SWARM_BACK,
    ELEMENTS,
    ELEMENTS_BACK,
    STACK,
    STACK_BACK,
    GATHER,
    SCATTER,
    FILL,
    FINITE,
    LOSS,
    CONSTANTS,
    COMBINE,
    SCAN,
) = range(16)
KINDS = 16
"""What a row does."""

DIRECT, SPREAD, LOADED, ABSENT = range(4)
"""How an operand is read: where it is, as one number for all, by the strides of the nest; or there is none."""

NONE, RANGES, FIRST, SECOND = range(4)
"""Where the arguments of a group of scalars are: anywhere; one after another, none of them in the group; the first or
the second one the same for all, the others one after another."""

PLAINLY = 128
"""Numbers of float32 that may be added one by one; with more, digits get lost as the sum grows."""

STORED, ADDED, LARGEST = range(3)
"""What becomes of a result: it is stored, added to what is there, or kept if it is the largest."""

T_OPCODE, T_NUMBER, T_COMBINE, T_WIDE, T_WIDE_LANES, T_RANK, T_ACCESS = range(2, 9)
T_REFS = T_ACCESS + 4
T_NEST = T_REFS + 4 * REF
"""TENSOR: how the result and three operands are read, references to them, and the nest. WIDE elements of float64
collect a result that many numbers are added to."""

(
    P_ADDED,
    P_GRADIENT,
    P_ROWS,
    P_ROWS_LANES,
    P_COLUMNS,
    P_COLUMNS_LANES,
    P_INNER,
    P_INNER_LANES,
    P_RANK,
) = range(2, 11)
P_STRIDES = 11
P_REFS = P_STRIDES + 6
P_NEST = P_REFS + 3 * REF
"""PRODUCT: whether it is added, which factor is a gradient (1, 2, or 0 for none), sizes, strides of rows and columns of
result and factors, references to them, and a nest of stacks with the strides of the three."""

S_GROUPS, S_COUNT, S_OPCODES, S_A, S_B, S_LISTS, S_WIDE_EXPONENTS, S_EXPONENTS, S_PLACE, S_ZEROED, S_REFS = range(2, 13)
"""SWARM: the address and the number of its groups, addresses of columns (exponents in float64 and in float32), the
place of its first operation, from which place on gradients are zero already, and references to values and gradients."""

E_LIST, E_COUNT, E_PLACE, E_REFS = range(2, 6)
"""ELEMENTS and STACK: the address of offsets or places, how many, the place of the first scalar, and references to the
scalars and the tensor."""

G_TABLES, G_ROWS, G_TAKEN, G_TAKEN_LANES, G_SIZE, G_REFS = range(2, 8)
"""GATHER and SCATTER: how many tables of one shape, rows of each, indices of an example, elements of a row, and
references to entries, tables and indices."""

A_BACKWARD, A_TABLES, A_ROWS, A_ROWS_LANES, A_SIZE, A_REFS = range(2, 8)
"""SCAN: whether it goes from the last row to the first, how many tables, rows of each, elements of a row, and
references to the result and the operand."""

F_COUNT, F_LANES, F_NUMBER, F_REF = range(2, 6)
"""FILL and FINITE: how many elements, the number, and a reference."""

M_COUNT, M_SUMS = range(2, 4)
"""COMBINE: how many sums; for each where it begins among totals (-1 if it is in place), its elements, whether it may be
in place, and a reference to that."""

M_ENTRY = 3 + REF
"""Integers of a sum."""

(
    C_CODE,
    C_LANES,
    C_FIRST,
    C_STATUS,
    C_SCRATCH,
    C_WIDE,
    C_GEMM,
    C_GEMV,
    C_STOP,
    C_LOSS,
    C_TOTALS,
    C_DIVISOR,
    C_DIRECT,
    C_APPLY,
    C_APPLY_BACK,
    C_APPLY_OTHER,
    C_PASS,
    C_GROUP,
    C_GROUP_BACK,
    C_OFFSET,
    C_SLOTS,
    C_OBJECTS,
    C_OBJECT_COUNT,
    C_KINDS,
) = range(24)
C_BUFFERS = C_KINDS + KINDS
"""The block that a thread runs with. LOSS and TOTALS are addresses of sums in float64, which are divided by DIVISOR;
DIRECT says that sums in sources are in place. From APPLY to KINDS stand addresses of compiled functions, the last ones
for each kind of row. From BUFFERS on, each buffer has its base and how it is addressed. Behind them, at OBJECTS, stand
OBJECT_COUNT arrays of the request, whose elements are at an address that is OFFSET behind (if that is 0, are there);
SLOTS is the address of their places in the block."""

(
    W_NEXT,
    W_READY,
    W_DONE,
    W_STATUS,
    W_WEIGHT,
    W_WEIGHTS_DONE,
    W_EXAMPLES,
    W_TILE,
    W_TILES,
    W_CHUNKS,
    W_SUMS,
    W_TOTALS,
    W_LOSSES,
    W_FLAGS,
    W_YIELD,
    W_SUMS_BUFFER,
    W_WEIGHTS,
    W_SECTIONS,
) = range(18)
W_SIZE = W_SECTIONS + 10
"""The block that threads share: the next chunk, whether values that examples share are there, chunks that are done, the
status of those values, the next gradient of weights, how many of these are done; examples, lanes of a tile, tiles,
chunks; elements of sums; addresses of totals [chunks, sums] and losses [chunks], and of the status of each tile; how
many gradients of weights there are; and sections."""

BAD_VALUE, BAD_GRADIENT, BAD_INDEX, STOPPED, BAD_SUM = 1, 2, 4, 8, 16
"""Bits of the status."""
