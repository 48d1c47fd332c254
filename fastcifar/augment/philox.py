"""Philox 4x32-10: random words that depend on a counter and a key alone, so that any device can make them."""

import torch

MASK = 0xFFFFFFFF
ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_INCREMENTS = (0x9E3779B9, 0xBB67AE85)

AUGMENT_STREAM = 0
ORDER_STREAM = 1
DALI_STREAM = 2
"""Last counter word: keeps the numbers of the augmentation, of the order and for DALI apart under one seed."""

Word = torch.Tensor | int
"""A 32-bit word held in an int64 tensor or a Python int: 0 .. 2**32 - 1."""


def key_from_seed(seed: int) -> tuple[int, int]:
    """The two key words of a 64-bit seed: (low 32 bits, high 32 bits)."""
    return seed & MASK, seed >> 32 & MASK


def philox4x32(counter: tuple[Word, Word, Word, Word], key: tuple[Word, Word]) -> tuple[Word, Word, Word, Word]:
    """Four random words for each counter.

    The words of `counter` and `key` broadcast against each other; the results are int64 tensors of the common
    shape (Python ints where all words are), each 0 .. 2**32 - 1.

    Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011, and the Random123 library,
    whose known answers it reproduces. A product of two words may wrap int64, but its 64 bits are right: after
    `>> 32` the mask removes the copies of the sign.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        product0, product1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            (product1 >> 32 & MASK) ^ c1 ^ k0,
            product1 & MASK,
            (product0 >> 32 & MASK) ^ c3 ^ k1,
            product0 & MASK,
        )
        k0, k1 = (k0 + KEY_INCREMENTS[0]) & MASK, (k1 + KEY_INCREMENTS[1]) & MASK
    return c0, c1, c2, c3
