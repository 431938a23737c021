"""The four objectives of ADBench (Srajer, Kukelova and Fitzgibbon 2018), written with NumPy's functions.

``xp`` is NumPy, for expressions, or ``jax.numpy``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.special import multigammaln


def gmm(xp: Any, params: Any, x: Any, n: int, gamma: float, m: int) -> Any:
    """What one of ``n`` points adds to the log-likelihood of a mixture of Gaussians, with its share of the prior.

    Inverse square roots of covariances are lower triangular: ``icf`` has the logarithms of their diagonals, then
    what is below these, column by column. The prior is Wishart's, of scale ``gamma`` and ``m`` further degrees of
    freedom.
    """
    alphas, means, icf = params["alphas"], params["means"], params["icf"]
    k, d = means.shape
    place = np.full((d, d), d * (d - 1) // 2)
    place.T[np.triu_indices(d, 1)] = np.arange(d * (d - 1) // 2)
    below = xp.concatenate([icf[:, d:], np.zeros((k, 1))], axis=1)[:, place]
    logs, centred = icf[:, :d], x - means
    whitened = xp.exp(logs) * centred + xp.einsum("kij,kj->ki", below, centred)
    inner = alphas + xp.sum(logs, axis=1) - 0.5 * xp.sum(whitened**2, axis=1)
    free = d + m + 1
    constant = free * d * math.log(gamma / math.sqrt(2)) - multigammaln(free / 2, d)
    prior = 0.5 * gamma**2 * (xp.sum(xp.exp(2 * logs)) + xp.sum(icf[:, d:] ** 2)) - m * xp.sum(logs) - k * constant
    return _logsumexp(xp, inner) - _logsumexp(xp, alphas) - d / 2 * math.log(2 * math.pi) + prior / n


def reprojection(xp: Any, camera: Any, point: Any, weight: Any, feature: Any) -> Any:
    """Bundle adjustment: how far a point is from where a camera sees it, times a weight.

    A camera is an axis times an angle, a centre, a focal length, a principal point, and two coefficients of distortion.
    """
    axis, angle = _axis_and_angle(xp, camera[:3])
    at = point - camera[3:6]
    turned = at * xp.cos(angle) + xp.cross(axis, at) * xp.sin(angle) + axis * ((axis @ at) * (1 - xp.cos(angle)))
    flat = turned[:2] / turned[2]
    square = xp.sum(flat**2)
    seen = flat * (1 + camera[9] * square + camera[10] * square**2) * camera[6] + camera[7:9]
    return weight * (seen - feature)


FINGER = ((6, 7), (8, -1), (9, -1))
"""Angles of the three joints of the first finger: bending, and for the first joint spreading; -1 is none."""

BENT = np.full((22, 3), 26)
for _finger in range(5):
    for _joint, _angles in enumerate(FINGER):
        BENT[2 + 4 * _finger + _joint, :2] = [26 if own < 0 else own + 4 * _finger for own in _angles]
"""[bones, 3], where the 26 numbers of a pose, and a 0 behind them, have the angles of a bone."""


def hand(xp: Any, theta: Any, model: Any) -> Any:
    """Positions of the vertices of a hand in a pose, by linear blend skinning."""
    angles = xp.concatenate([theta, np.zeros(1)])[BENT]
    relatives = model["base_relatives"] @ _rigid(xp, _turned(xp, angles))
    absolutes: list[Any] = []
    for bone, parent in enumerate(model["parents"]):
        absolutes.append(relatives[bone] if parent < 0 else absolutes[parent] @ relatives[bone])
    transforms = xp.stack(absolutes) @ model["inverse_base_absolutes"]
    moved = xp.einsum("vb,bij,vj->vi", model["weights"], transforms, model["positions"])[:, :3]
    return moved @ _about(xp, theta[:3]).T + theta[3:6]


def on_triangles(xp: Any, vertices: Any, corners: Any, triangles: Any) -> Any:
    """Points with these first two barycentric coordinates on triangles of vertices."""
    first, second, third = (vertices[np.asarray(triangles)[:, corner]] for corner in range(3))
    u, v = corners[:, :1], corners[:, 1:]
    return u * first + v * second + (1 - u - v) * third


def lstm(xp: Any, params: Any, state: Any, sequence: Any) -> Any:
    """Mean loss of the bits of a sequence, each predicted from those before by layers of cells without mixing."""
    main, extra = params["main"], params["extra"]
    rows: list[Any] = [state[place] for place in range(state.shape[0])]
    total: Any = 0.0
    for given, wanted in pairwise(sequence):
        x = given * extra[0]
        for layer in range(0, len(rows), 2):
            rows[layer : layer + 2] = _cell(xp, main[layer], main[layer + 1], rows[layer], rows[layer + 1], x)
            x = rows[layer]
        predicted = x * extra[1] + extra[2]
        total = total + xp.sum(wanted * (predicted - xp.log(xp.sum(xp.exp(predicted)) + 2)))
    return -total / (sequence.shape[1] * (sequence.shape[0] - 1))


def _cell(xp: Any, weight: Any, bias: Any, hidden: Any, cell: Any, x: Any) -> Sequence[Any]:
    gates = xp.concatenate([x, hidden, x, hidden]) * weight + bias
    forget, into, out, change = xp.split(gates, 4)
    cell = cell * _sigmoid(xp, forget) + _sigmoid(xp, into) * xp.tanh(change)
    return _sigmoid(xp, out) * xp.tanh(cell), cell


def _sigmoid(xp: Any, x: Any) -> Any:
    return 1 / (1 + xp.exp(-x))


def _logsumexp(xp: Any, x: Any) -> Any:
    top = xp.max(x)
    return xp.log(xp.sum(xp.exp(x - top))) + top


def _axis_and_angle(xp: Any, vector: Any) -> tuple[Any, Any]:
    angle = xp.sqrt(xp.sum(vector**2))
    return vector / angle, angle


def _about(xp: Any, vector: Any) -> Any:
    """The rotation about an axis, by Rodrigues's formula."""
    (x, y, z), angle = _axis_and_angle(xp, vector)
    crossed = xp.stack([0 * x, -z, y, z, 0 * x, -x, -y, x, 0 * x]).reshape(3, 3)
    return np.eye(3) + xp.sin(angle) * crossed + (1 - xp.cos(angle)) * (crossed @ crossed)


def _turned(xp: Any, angles: Any) -> Any:
    """Rotations about x, then y, then z, by the first, third and second of three angles; that about y backwards."""
    (cx, cz, cy), (sx, sz, sy) = (xp.moveaxis(own, -1, 0) for own in (xp.cos(angles), xp.sin(angles)))
    rows = [cz * cy, -sz * cx - cz * sy * sx, sz * sx - cz * sy * cx]
    rows += [sz * cy, cz * cx - sz * sy * sx, -cz * sx - sz * sy * cx]
    rows += [sy, cy * sx, cy * cx]
    return xp.stack(rows, axis=-1).reshape(-1, 3, 3)


def _rigid(xp: Any, rotations: Any) -> Any:
    """Rotations as homogeneous matrices."""
    count = rotations.shape[0]
    wide = xp.concatenate([rotations, np.zeros((count, 3, 1))], axis=2)
    return xp.concatenate([wide, np.broadcast_to([0.0, 0.0, 0.0, 1.0], (count, 1, 4))], axis=1)
