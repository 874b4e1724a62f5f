"""The path norm of a model: sums over paths of the product of its weights, by one forward pass of powers."""

from __future__ import annotations

import math
from numbers import Real

from netassay.base.errors import DomainError
from netassay.sources.passes.norm.engine import Norms
from netassay.sources.passes.norm.rules import RULES
from netassay.sources.passes.sums import Value
from netassay.sources.traced.graph import Traced


def path_norm(traced: Traced, q: float, function: str = "path_norm") -> float:
    """(sum over all paths of prod |w|^q over the weights along it)^(1/q), with the model's weights.

    Paths go from every input unit, and from a constant input through every bias, to every output unit of one sample.
    Pushed forward as t(v) = sum over the edges into v of |w|^q t(u), inputs 1, + |b|^q:
      eval BatchNorm is folded into the linear layer or convolution before it, W' = g / s W, b' = (b - m) g / s + beta,
      s = sqrt(var + eps), where nothing else reads that; elsewhere it is a diagonal layer with a bias;
      a maximum of k is the sum of them (right for every q); an average of k has k edges of weight 1 / k, so k^-q times
      the sum (k of each window: padding, ceil_mode and divisors as they are), which is k^(1-q) where all are equal;
      constants that are added are biases, those that are multiplied are weights.
    ReLU, leaky ReLU and PReLU with slopes in [-1, 1], and abs pass: they are positively homogeneous and 1-Lipschitz.
    ReLU6 and hardtanh are refused, though 1-Lipschitz: the norm does not change when the weights into a unit are
    multiplied by c > 0 and those out of it by 1 / c, but the function that saturates at 6 does.

    Args:
        q: > 0, finite. At q = 1 the norm bounds every output's change with the input's largest.

    Returns:
        >= 0; inf where it exceeds float64. Sums are carried with their scale, so nothing overflows on the way.

    Raises:
        DomainError: q. NonFinite: a parameter with a NaN or an infinity. UnsupportedLayout: an operation without a path
        norm, or a model without values; names the layer.

    Source: Neyshabur et al. 2015 (1503.00036); on graphs with BatchNorm, pools and biases Gonon et al. 2310.01225.
    """
    if not (isinstance(q, Real) and not isinstance(q, bool) and math.isfinite(q) and q > 0):
        raise DomainError(f"{function}: got q={q!r}, expected a finite number above 0")
    norms = Norms(traced, float(q), function, RULES)
    found: dict[int, Value] = {}
    for place, value in norms.walk():
        if place in traced.graph.outputs:
            found[place] = value
    outputs = {place: norms.output(place, found.get(place)) for place in traced.graph.outputs}
    terms = [sums.log2_mean + math.log2(n) for p, sums in outputs.items() if (n := traced.graph.calls[p].size)]
    largest = max(terms, default=-math.inf)
    if largest == -math.inf:
        return 0.0
    bits = largest + math.log2(math.fsum(2.0 ** (term - largest) for term in terms))
    try:
        return float(2.0 ** (bits / q))
    except OverflowError:
        return math.inf
