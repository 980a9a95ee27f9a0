"""The published formulas, dense and plain, apart from the library's own algebra."""

import numpy as np


def dense(up, down, scale: float = 1.0) -> np.ndarray:
    """dW, (out, in, ...) float64, of a linear or convolution layer."""
    up, down = (np.asarray(factor).astype(np.float64) for factor in (up, down))
    return scale * np.einsum("or,r...->o...", up.reshape(up.shape[0], -1), down)


def coefficients(dw_c, dw_s, w1, b1, w2, b2) -> np.ndarray:
    """m, (2, in), one column at a time as the paper writes it."""
    columns = []
    for j in range(dw_c.shape[1]):
        hidden = np.maximum(w1 @ np.concatenate([dw_c[:, j], dw_s[:, j]]) + b1, 0)
        columns.append(w2 @ hidden + b2)
    return np.stack(columns, axis=1)


def merged(dw_c, dw_s, m) -> np.ndarray:
    return dw_c * m[0][None, :] + dw_s * m[1][None, :]
