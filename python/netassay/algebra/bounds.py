"""What a network can do at most, from its widths and numbers of parameters alone: regions, VC dimension, capacity."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import SupportsIndex

from netassay.base.errors import DomainError, DTypeError, LimitExceeded, ShapeError

#: Bytes of integers that one call may work on.
LIMIT = 1 << 30


def serra_regions(widths: Sequence[SupportsIndex]) -> int:
    """Upper bound on the linear regions of a chain of ReLU layers, which follows how many units can be active.

    sum over J of prod_{l=1..L} C(n_l, j_l), J = {(j_1..j_L): 0 <= j_l <= min(n_0, n_1 - j_1, ..., n_{l-1} - j_{l-1},
    n_l)}: behind a layer of which j_l units are inactive lie at most n_l - j_l dimensions.

    Exact: f(d), the sum of the products with d = min(n_0, n_1 - j_1, ...), goes from layer to layer in
    O(min(n_0..n_l)) operations on integers of n_1 + ... + n_l bits at most. Never above `montufar_bound`.

    >>> serra_regions([2, 4, 3, 2])
    275

    Args:
        widths: [n_0, n_1, ..., n_L], units of the input and of each ReLU layer; a linear head behind them is left out.

    Returns:
        A count. Activation patterns that an open set of inputs takes, of which a region may have several, are no more.

    Raises:
        ShapeError: fewer than two widths. DTypeError: one that is no integer. DomainError: one below 1.
        LimitExceeded: integers of more than 1 GiB, before one is made. ([4096] * 5 takes a second and 16 MiB.)

    Source: Serra, Tjandraatmadja, Ramalingam, "Bounding and Counting Linear Regions of Deep Neural Networks" (ICML
    2018, arXiv 1711.02114), theorem 1.
    """
    n = _widths(widths, "serra_regions")
    _fit(_table_bits(n), "serra_regions")
    sums = [0] * min(n[0], n[1]) + [1]  # f; with n_0 > n_1 no j_1 and no d differs from those of n_0 = n_1
    for width in n[1:-1]:
        sums = _behind(sums, width)
    most = list(accumulate(_binomials(n[-1], len(sums) - 1)))
    return sum(value * most[min(d, n[-1])] for d, value in enumerate(sums))


def montufar_bound(widths: Sequence[SupportsIndex]) -> int:
    """Upper bound on the linear regions of a chain of layers of ReLU units, each the most that hyperplanes can cut.

    prod_{l=1..L} sum_{j <= min(n_0..n_l)} C(n_l, j)

    >>> montufar_bound([2, 4, 3, 2])
    308

    Args, returns, raises: as `serra_regions`.

    Source: Montufar, "Notes on the number of linear regions of deep neural networks" (SampTA 2017); one factor is
    Zaslavsky's theorem (1975).
    """
    n = _widths(widths, "montufar_bound")
    factors = list(zip(n, accumulate(n, min), strict=True))[1:]
    _fit(sum((1 + min(k + 1, n - k)) * _bits(n, k) for n, k in factors), "montufar_bound")
    return math.prod(_binomial_sum(n, k) for n, k in factors)


def vc_bound(units: Sequence[SupportsIndex], parameters: Sequence[SupportsIndex], *, breakpoints: int = 1) -> float:
    """Upper bound on the VC dimension of a network of piecewise linear units with one output, whose sign is taken.

    VCdim <= L + Lbar W log2(4 e p R log2(2 e p R)); L layers; k_i units in layer i = 1..L, k_L = 1; W_i parameters in
    the layers up to i, W = W_L; Lbar = (1/W) sum_i W_i; R = sum_i i k_i; p breakpoints of the activation.

    m points that are shattered take 2^m signs, of which the layers leave at most prod_i 2 (2 e m p i k_i / W_i)^{W_i}
    (Warren: polynomials of degree i in W_i variables), so 2^m <= 2^L (2 e m p R / w)^w, w = sum_i W_i = Lbar W, and
    m <= L + w log2(2 r log2 r), r = 2 e p R, whenever r >= 16 and m >= w >= L. The conditions are no restriction: with
    two layers or more, p R >= 3 and r >= 16; one layer is linear in its W parameters, and VCdim <= W; m < w is below
    the bound; a layer ahead of the first parameter cuts nothing, and counting it only adds.

    >>> round(vc_bound([3, 1], [6, 4]), 2)
    130.27

    Args:
        units: [k_1, ..., k_L]; a layer is as far from the input as its longest path, and may read all before it.
        parameters: of each layer, those that no layer before it has: W_i - W_{i-1}, weights and biases; 0 is allowed.
        breakpoints: 1 for ReLU, 2 for ReLU6, and q (q - 1) / 2, its comparisons, for a maximum over q; the most of all.

    Returns:
        A number of points, real; 0.0 where there are no parameters: one function shatters nothing.

    Raises:
        ShapeError: no layer, or not as many numbers of parameters as of units. DTypeError: a number that is no
        integer. DomainError: fewer than one unit or breakpoint, negative parameters, more than one output.

    Source: Bartlett, Harvey, Liaw, Mehrabian, "Nearly-tight VC-dimension and pseudodimension bounds for piecewise
    linear neural networks" (JMLR 2019, arXiv 1703.02930), theorem 7 with d = 1.
    """
    k = _integers(units, "vc_bound", "units", least=1)
    own = _integers(parameters, "vc_bound", "parameters", least=0)
    (p,) = _integers([breakpoints], "vc_bound", "breakpoints", least=1)
    if not k or len(k) != len(own):
        raise ShapeError(f"vc_bound: got {len(k)} units and {len(own)} parameters, expected one of each a layer")
    if k[-1] != 1:
        raise DomainError(f"vc_bound: got {k[-1]} units in the last layer, expected 1: the bound is of one output")
    below = list(accumulate(own))
    if below[-1] == 0:
        return 0.0
    r = 2 * math.e * p * sum(i * count for i, count in enumerate(k, start=1))
    return len(k) + sum(below) * math.log2(2 * r * math.log2(r))


def capacity(widths: Sequence[SupportsIndex]) -> int:
    """How many functions a chain of layers of threshold units can compute, in bits and in essence.

    sum_{k=1..L-1} min(n_1..n_k) n_k n_{k+1}

    The binary logarithm of that number of functions lies within constant factors of it, unless a layer is
    exponentially wider than one before it; a layer narrower than all before it is a bottleneck.

    >>> capacity([3, 2, 4])
    34

    Args:
        widths: [n_1, ..., n_L], units of the input and of each layer of threshold units, the output among them.

    Returns:
        Bits, up to a constant factor: an estimate, no bound; and of threshold units, not of ReLU.

    Raises:
        ShapeError: fewer than two widths. DTypeError: one that is no integer. DomainError: one below 1.

    Source: Baldi, Vershynin, "The capacity of feedforward neural networks" (Neural Networks 2019, arXiv 1901.00434).
    """
    n = _widths(widths, "capacity")
    return sum(least * a * b for least, (a, b) in zip(accumulate(n, min), pairwise(n), strict=False))


def _behind(sums: list[int], n: int) -> list[int]:
    """f behind one more layer: of its n units j are inactive, in C(n, j) ways, and d becomes min(d, n - j).

    So d stays where j <= min(d, n - d), and of every d' > d with d' >= n - d comes d = n - j.
    """
    top = min(len(sums) - 1, n)
    binomials = list(_binomials(n, top))
    most = list(accumulate(binomials))
    above = [*accumulate(reversed(sums))][::-1]  # above[k] = sum of f(d), d >= k

    def term(d: int) -> int:
        least = max(d + 1, n - d)
        moved = binomials[d] * above[least] if least < len(above) else 0
        return sums[d] * most[min(d, n - d)] + moved

    return [term(d) for d in range(top + 1)]


def _binomials(n: int, top: int) -> Iterator[int]:
    """C(n, j), j = 0..min(n, top)."""
    value = 1
    yield value
    for j in range(min(n, top)):
        value = value * (n - j) // (j + 1)
        yield value


def _binomial_sum(n: int, k: int) -> int:
    """sum_{j <= k} C(n, j), k <= n, from the shorter side."""
    if k == n:
        return 1 << n
    return sum(_binomials(n, k)) if 2 * k < n else (1 << n) - sum(_binomials(n, n - k - 1))


def _bits(n: int, k: int) -> int:
    """Upper bound on log2 sum_{j <= k} C(n, j), which is at most (n + 1)^k."""
    return min(n, k * n.bit_length()) + 1


def _table_bits(n: list[int]) -> int:
    """Upper bound on what `serra_regions` holds at a time: f and its sums, the binomials and theirs, the next f."""
    ranks = list(accumulate(n, min))
    most = held = 0  # bits of one value of f
    for before, k, width in zip(ranks, ranks[1:], n[1:], strict=False):
        own = _bits(width, k)
        most = max(most, 2 * (min(before, n[1]) + 1) * held + (k + 1) * (2 * own + held + own))
        held += own
    return most


def _fit(bits: int, function: str) -> None:
    if bits > 8 * LIMIT:
        raise LimitExceeded(f"{function}: got widths that take integers of {bits // 8} bytes, expected at most {LIMIT}")


def _widths(values: Sequence[SupportsIndex], function: str) -> list[int]:
    found = _integers(values, function, "widths", least=1)
    if len(found) < 2:
        raise ShapeError(f"{function}: got {len(found)} widths, expected at least 2: the input and a layer")
    return found


def _integers(values: Sequence[SupportsIndex], function: str, name: str, *, least: int) -> list[int]:
    try:
        found = [operator.index(value) for value in values]
    except TypeError:
        raise DTypeError(f"{function}: got {name} {values!r}, expected integers") from None
    if wrong := [value for value in found if value < least]:
        raise DomainError(f"{function}: got {name} {wrong[0]}, expected at least {least}")
    return found
