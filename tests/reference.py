"""The published formulas, dense and plain, apart from the library's own algebra."""

import torch
from torch import Tensor


def dense(up: Tensor, down: Tensor, scale: float) -> Tensor:
    return scale * (up.float() @ down.float())


def coefficients(dw_c: Tensor, dw_s: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor):
    columns = torch.cat([dw_c.T, dw_s.T], dim=1)
    return (torch.relu(columns @ w1.T + b1) @ w2.T + b2).T
