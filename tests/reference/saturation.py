"""The moments of activations and what is read off them, each formula literally, slow and obvious.

Sources: layer saturation, Richter et al., arXiv 2006.08679; effective dimension, Janik and Witaszczyk,
arXiv 2006.04791; merging, Chan, Golub and LeVeque 1979; effective rank, Roy and Vetterli, EUSIPCO 2007;
RankMe, Garrido et al., arXiv 2210.02885; the corrected participation ratio is the ratio of two U-statistics.
x: (n, d) rows of activations; eig: (d,) eigenvalues l of the covariance, descending, clipped at 0; t = sum l.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
State = tuple[int, F64, F64]  # count n, mean m (d,), scatter M = sum (x - m)(x - m)^T (d, d)


def rows(x: np.ndarray, layout: str = "rows", mask: np.ndarray | None = None) -> np.ndarray:
    """(n, d) rows of an array with its channels last, or in axis 1 for "channels_first"; mask keeps True."""
    x = np.moveaxis(x, 1, -1) if layout == "channels_first" else x
    return x.reshape(-1, x.shape[-1]) if mask is None else x[mask]


def moments(x: np.ndarray, centre: type = np.longdouble) -> State:
    """n, m = sum x / n, M = sum (x - m)(x - m)^T over finite rows; centred in `centre`, summed in float64."""
    x = x[np.isfinite(x).all(axis=1)].astype(centre)
    m = x.mean(axis=0)
    y = (x - m).astype(np.float64)
    return len(x), m.astype(np.float64), y.T @ y


def covariance(x: np.ndarray, ddof: int = 0, centre: type = np.longdouble) -> F64:
    """Q = M / (n - ddof)."""
    n, _, scatter = moments(x, centre)
    return scatter / (n - ddof)


def naive_covariance(x: np.ndarray) -> np.ndarray:
    """sum x x^T / n - m m^T in the dtype of x: what an implementation must not do."""
    m = x.mean(axis=0)
    return x.T @ x / x.dtype.type(len(x)) - np.outer(m, m)


def merge(a: State, b: State) -> State:
    """n' = n + n_b; m' = m + delta n_b/n'; M' = M + M_b + delta delta^T n n_b/n'; delta = m_b - m."""
    if a[0] == 0 or b[0] == 0:
        return b if a[0] == 0 else a
    n, delta = a[0] + b[0], b[1] - a[1]
    return n, a[1] + delta * b[0] / n, a[2] + b[2] + np.outer(delta, delta) * (a[0] * b[0] / n)


def eigenvalues(q: np.ndarray) -> F64:
    return np.clip(np.linalg.eigvalsh(q.astype(np.float64))[::-1], 0.0, None)


def dimension(eig: F64, delta: float = 0.99) -> int:
    """Least k with (l_1 + ... + l_k) / t >= delta - 1e-12; 0 when t = 0."""
    t = math.fsum(eig)
    return next((k for k in range(1, len(eig) + 1) if t > 0 and math.fsum(eig[:k]) / t >= delta - 1e-12), 0)


def held_out(a: np.ndarray, b: np.ndarray, delta: float = 0.99) -> int:
    """Least k such that b's variances along the first k eigenvectors of a's covariance are delta of all of them.

    Where a has no variance its directions are in no order: each has the mean of b's variances along them.
    """
    eig, vectors = np.linalg.eigh(covariance(a))
    along = np.diag(vectors.T @ covariance(b) @ vectors)[::-1].copy()
    rank = int((eig > 1e-9 * eig[-1]).sum())
    if rank < len(along):
        along[rank:] = along[rank:].mean()
    t = math.fsum(along)
    return next(k for k in range(len(along) + 1) if math.fsum(along[:k]) >= (delta - 1e-12) * t)


def saturation(eig: F64, delta: float = 0.99) -> float:
    return dimension(eig, delta) / len(eig)


def _exp_entropy(p: np.ndarray) -> float:
    return math.exp(-math.fsum(v * math.log(v) for v in p if v > 0))


def effective_dimension(eig: F64) -> float:
    """d_eff = exp(-sum p ln p), p = l / t (arXiv 2006.04791; the Hill number of order 1); 1 when t = 0."""
    return _exp_entropy(eig / math.fsum(eig)) if eig[0] > 0 else 1.0


def participation_ratio(eig: F64) -> float:
    return math.fsum(eig) ** 2 / math.fsum(eig * eig)


def stable_rank(eig: F64) -> float:
    return math.fsum(eig) / float(eig[0])


def effective_rank(eig: F64) -> float:
    """Roy and Vetterli: the same entropy on the singular values sqrt(l)."""
    return _exp_entropy(np.sqrt(eig) / math.fsum(np.sqrt(eig)))


def corrected_traces(x: np.ndarray) -> tuple[float, float, float, float]:
    """Unbiased tr(Sigma^2), unbiased (tr Sigma)^2, and the sum of absolute terms of each (their condition).

    S = M/(n-1); t1 = tr S; t2 = tr S^2; Q4 = sum |x - xbar|^4/(n-1); c = (n-1)/(n(n-2)(n-3)), n >= 4:
    c[(n-1)(n-2) t2 + t1^2 - n Q4]   and   c[2 t2 + (n^2-3n+1) t1^2 - n Q4].
    """
    n, _, scatter = moments(x)
    y = (x.astype(np.longdouble) - x.astype(np.longdouble).mean(axis=0)).astype(np.float64)
    s, q4 = scatter / (n - 1), math.fsum((y * y).sum(axis=1) ** 2) / (n - 1)
    t1, t2, c = float(np.trace(s)), float(np.sum(s * s)), (n - 1) / (n * (n - 2) * (n - 3))
    squares, square = ((n - 1) * (n - 2) * t2, t1 * t1), (2 * t2, (n * n - 3 * n + 1) * t1 * t1)
    a, b, q = sum(squares), sum(square), n * q4
    return c * (a - q), c * (b - q), c * (a + q), c * (b + q)


def participation_ratio_corrected(x: np.ndarray) -> float:
    """The ratio of the two unbiased estimates, (tr Sigma)^2 over tr(Sigma^2), from raw rows."""
    squares, square, _, _ = corrected_traces(x)
    return square / squares


def rankme(x: np.ndarray) -> float:
    """exp(-sum p ln p), p = s / sum s + 1e-7, s the min(n, d) singular values of the uncentred rows."""
    s = np.linalg.svd(x.astype(np.float64), compute_uv=False)
    return _exp_entropy(s / math.fsum(s) + 1e-7)


def spectrum_decay(eig: F64, first: int, last: int) -> tuple[float, float]:
    """Least-squares slope of ln l_i on ln i and R^2, i = first..last (1-based, inclusive)."""
    u, v = np.log(np.arange(first, last + 1)), np.log(eig[first - 1 : last])
    u, v = u - u.mean(), v - v.mean()
    return float(u @ v / (u @ u)), float((u @ v) ** 2 / ((u @ u) * (v @ v)))
