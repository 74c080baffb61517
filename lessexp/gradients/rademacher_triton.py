"""The dense ±1/√d projection as one Triton kernel: signs are made in registers and never reach the GPU's memory.

Entries are those of ``random_bits.random_sign_matrix``. Importing this module needs Triton.

Precision: a sign is exact in bfloat16, and a float32 is the sum of three bfloat16 (3 × 8 bits of significand),
so three products on bfloat16 tensor cores lose nothing, at half the cost of three in tf32. Tensor cores drop
bits where float32 addition rounds (Ootomo & Yokota 2022, arXiv:2203.03341), which over many rows shrinks a
sum; hence they sum one block of rows only, and blocks are added in ordinary float32.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import BFloat16, Float
from torch import Tensor

_BLOCK_ROWS = 64
_BLOCK_COLUMNS = 128
_LARGEST_BLOCK_BATCH = 64
# Enough to fill any GPU. A constant: a count taken from the device would make sums differ between devices.
_PROGRAMS = 1024
_ENTRIES_AT_ONCE = 1 << 26  # bounds memory
_DOT_DTYPE = tl.bfloat16


# Jitted functions are compiled from their source; a run-time type checker's wrapper around them would hide it.
@triton.jit
@no_type_check
def _mix(value):
    # As in random_bits; products that are masked there wrap here, in uint32.
    value = value ^ (value >> 16)
    value = value * 0x85EBCA6B
    value = value ^ (value >> 13)
    value = value * 0xC2B2AE35
    return value ^ (value >> 16)


@triton.jit
@no_type_check
def _transposed_signs(key_low, key_high, rows, words):
    """-1 and +1 as bfloat16: a line for each of the words' 32 columns, an entry for each row (int64).

    Lines along rows, for then neighbouring threads hold different words and each draws its own. With columns
    side by side, 32 threads would all compute the same word.
    """
    # The index row * 2**20 + word in halves of 32 bits; word is below 2**20.
    low = (rows.to(tl.uint32) << 20)[None, :] + words.to(tl.uint32)[:, None]
    high = (rows >> 12).to(tl.uint32) * 0x9E3779B9 + key_high.to(tl.uint32)
    bits = _mix(_mix(low ^ key_low.to(tl.uint32)) ^ high[None, :])
    bits = bits[:, None, :] >> tl.arange(0, 32)[None, :, None]
    # The bit goes where bfloat16 has its sign; 0xBF80 is -1.
    signs = (((bits << 15) & 0x8000) ^ 0xBF80).to(tl.uint16).to(tl.bfloat16, bitcast=True)
    return tl.reshape(signs, [words.shape[0] * 32, rows.shape[0]])


# What is not specialised does not make Triton compile the kernel again for another key, tile or batch.
@triton.jit(do_not_specialize=["batch", "start", "key_low", "key_high"])
@no_type_check
def _kernel(
    parts,
    partial_sums,
    batch,
    n_rows,
    n_columns,
    rows_per_split,
    start: tl.int64,
    key_low: tl.uint32,
    key_high: tl.uint32,
    scale: tl.float32,
    dot_dtype: tl.constexpr,
    block_batch: tl.constexpr,
    block_rows: tl.constexpr,
    block_columns: tl.constexpr,
):
    """One block of examples times one block of columns, over one split of the rows."""
    words = tl.program_id(0) * (block_columns // 32) + tl.arange(0, block_columns // 32)
    split = tl.program_id(1).to(tl.int64)
    examples = tl.program_id(2).to(tl.int64) * block_batch + tl.arange(0, block_batch)
    is_example = (examples < batch)[:, None]
    first_row = split * rows_per_split + tl.arange(0, block_rows)
    place = parts + examples[:, None] * n_rows + first_row[None, :]
    part_size = n_rows * batch.to(tl.int64)

    total = tl.zeros([block_batch, block_columns], tl.float32)
    for step in range(0, rows_per_split, block_rows):
        high = tl.load(place + step, mask=is_example, other=0.0).to(dot_dtype)
        middle = tl.load(place + step + part_size, mask=is_example, other=0.0).to(dot_dtype)
        low = tl.load(place + step + 2 * part_size, mask=is_example, other=0.0).to(dot_dtype)
        signs = tl.trans(_transposed_signs(key_low, key_high, start + first_row + step, words).to(dot_dtype))
        # ``total`` stays out of the products, where tensor cores would do the addition.
        total += tl.dot(high, signs, tl.dot(middle, signs, tl.dot(low, signs)))

    columns = tl.program_id(0) * block_columns + tl.arange(0, block_columns)
    out = partial_sums + (split * batch + examples[:, None]) * n_columns + columns[None, :]
    tl.store(out, total * scale, mask=is_example & (columns < n_columns)[None, :])


def bfloat16_parts(tile: Float[Tensor, "batch n"], n_padded: int) -> BFloat16[Tensor, "3 batch n_padded"]:
    """Three summands of each float32, largest first, with zeros after the last column."""
    parts = torch.zeros(3, len(tile), n_padded, dtype=torch.bfloat16, device=tile.device)
    rest = tile
    for part in parts[:, :, : tile.shape[1]]:
        part.copy_(rest)
        rest = rest - part
    return parts


def _add_piece(total: Float[Tensor, "batch proj_dim"], tile: Float[Tensor, "batch n"], key: int, start: int) -> None:
    batch, proj_dim = total.shape
    block_batch = min(_LARGEST_BLOCK_BATCH, max(16, triton.next_power_of_2(batch)))
    column_blocks, batch_blocks = triton.cdiv(proj_dim, _BLOCK_COLUMNS), triton.cdiv(batch, block_batch)
    row_blocks = triton.cdiv(tile.shape[1], _BLOCK_ROWS)
    blocks_per_split = triton.cdiv(row_blocks * column_blocks * batch_blocks, _PROGRAMS)
    splits = triton.cdiv(row_blocks, blocks_per_split)
    rows_per_split = blocks_per_split * _BLOCK_ROWS
    parts = bfloat16_parts(tile, splits * rows_per_split)
    partial_sums = torch.empty(splits, batch, proj_dim, device=tile.device)
    with torch.cuda.device_of(tile):
        _kernel[(column_blocks, splits, batch_blocks)](
            parts,
            partial_sums,
            batch,
            parts.shape[2],
            proj_dim,
            rows_per_split,
            start,
            key & 0xFFFFFFFF,
            key >> 32,
            proj_dim**-0.5,
            dot_dtype=_DOT_DTYPE,
            block_batch=block_batch,
            block_rows=_BLOCK_ROWS,
            block_columns=_BLOCK_COLUMNS,
            enable_fp_fusion=True,  # here of no effect; left unsaid, Triton warns that its default will change
        )
    total += partial_sums.sum(0)


def add_projection(
    total: Float[Tensor, "batch proj_dim"], tile: Float[Tensor, "batch n"], *, key: int, start: int
) -> None:
    """Add ``tile @ signs / √proj_dim`` to ``total``, in float32.

    Rows are split over programs; the order in which their sums are added follows from the shapes alone.

    Args:
        total: what is added to.
        tile: float32 coordinates, all finite.
        key: of the signs, from ``random_bits.key_of``.
        start: row of the sign matrix that meets the tile's first column; below 2**42.
    """
    rows_at_once = max(_BLOCK_ROWS, _ENTRIES_AT_ONCE // max(1, len(tile)))
    for first in range(0, tile.shape[1], rows_at_once):
        _add_piece(total, tile[:, first : first + rows_at_once], key, start + first)
