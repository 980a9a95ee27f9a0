"""NP-LoRA (arXiv 2511.11051): the content LoRA keeps out of the directions that the style reads."""

import numpy as np

from lorarar.lora import Layer, Lora
from lorarar.merge import weighted_sum
from lorarar.methods.factors import matrix_factors, widest
from lorarar.methods.options import MergeOptions
from lorarar.numeric import narrow, quietly
from lorarar.parallel import cores, side_by_side

ROUNDING = float(np.finfo(np.float32).eps)


def null_space(content: Lora, style: Lora, options: MergeOptions) -> Lora:
    """dW = dW_s + dW_c (I - mu / (1 + mu) V V^T). Rank r_c + r_s, exact.

    V: the right singular vectors of dW_s, all of them as in the paper. `options.mu` = 0 is the
    direct sum, infinity the hard projection: nothing that dW_s reads is left to the content.
    """
    weighted_sum(content, style, {})  # refuses LoRAs that do not fit together
    share = 1 - 1 / (1 + options.mu)
    both = [name for name in content.layers if name in style.layers]

    @quietly
    def project(name: str) -> Layer:
        layer = content.layers[name]
        _, down = matrix_factors(name, content)
        v = _reads(name, style)
        kept = narrow(down - np.float32(share) * (down @ v) @ v.T, layer.down.dtype)
        return layer._replace(down=kept.reshape(layer.down.shape))

    projected = side_by_side(project, both, cores(), widest(content))
    return weighted_sum(
        Lora(content.layers | projected, source=content.source),
        style,
        {},
        options.content_scale,
        options.style_scale,
    )


def _reads(name: str, lora: Lora) -> np.ndarray:
    """The right singular vectors of a layer's dW, (in, rank of dW), orthonormal float32.

    QR of both factors and an SVD of the (r, r) core. Directions that the factors name but dW does
    not read are left out, so that V depends on dW alone, and not on how it is factored.
    """
    up, down = matrix_factors(name, lora)
    q, r_down = np.linalg.qr(down.T)
    _, values, v = np.linalg.svd(np.linalg.qr(up, mode="r") @ r_down.T, full_matrices=False)
    smallest = values.max(initial=0) * ROUNDING * max(len(up), down.shape[1])
    directions: np.ndarray = q @ v[values > smallest].T
    return directions
