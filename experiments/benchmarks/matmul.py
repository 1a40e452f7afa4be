"""The rate of one large matmul, which the rates of both sides' passes are told against."""

import time
from collections.abc import Callable


def matmul_rate(side: int, multiply: Callable[[], object]) -> float:
    """Operations per second, a multiplication and an addition counted as two: the best of six.

    Args:
        side: rows and columns of both matrices.
        multiply: computes one product, and returns once it is there.
    """
    best = float("inf")
    for _ in range(6):
        start = time.perf_counter()
        multiply()
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best
