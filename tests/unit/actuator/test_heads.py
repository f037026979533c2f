"""The two ways to read states: what each says of an example that is left out is what it would have said."""

from __future__ import annotations

import numpy as np
import pytest

from kylin_gguf.actuator import gaussian_head
from kylin_gguf.actuator.gaussian_head import GaussianHead
from kylin_gguf.actuator.kernel_head import RIDGE, KernelHead
from kylin_gguf.actuator.ridge import Indices, Vector

CLASSES = 4


def clouds(noise: float, each: int, width: int = 24) -> tuple[Vector, Indices]:
    """Return directions around ``CLASSES`` others, and which; the first class has three times as many."""
    random = np.random.default_rng(7)
    classes = np.repeat(np.arange(CLASSES), [3 * each, *[each] * (CLASSES - 1)]).astype(np.int32)
    points = random.standard_normal((CLASSES, width))[classes] + noise * random.standard_normal(
        (len(classes), width)
    )
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32), classes


def test_the_kernel_head_without_each_example() -> None:
    points, classes = clouds(noise=3.0, each=40)
    kernel = np.exp(points.astype(np.float64) @ points.T - 1)
    wanted = np.eye(CLASSES)[classes] - np.eye(CLASSES)[classes].mean(axis=0)
    right = 0
    for i in range(len(points)):
        rest = np.arange(len(points)) != i
        gram = kernel[np.ix_(rest, rest)] + RIDGE * np.eye(int(rest.sum()))
        right += int((kernel[i, rest] @ np.linalg.solve(gram, wanted[rest])).argmax()) == classes[i]
    share = KernelHead.fit(points, classes, CLASSES)[1]
    assert 0.3 < share < 0.8
    assert share == pytest.approx(right / len(points))


def test_the_gaussian_head_without_each_example() -> None:
    """But for how round clouds are taken to be, for which one example more or less is nothing."""
    points, classes = clouds(noise=1.5, each=12)
    found = gaussian_head._Clouds(points.astype(np.float64), classes, CLASSES)
    evenly = np.trace(found._around.T @ found._around) / len(points) / points.shape[1]
    for i, scores in enumerate(found.held_out()):
        rest = np.arange(len(points)) != i
        means = np.stack(
            [points[rest & (classes == c)].mean(axis=0) for c in range(CLASSES)], dtype=np.float64
        )
        around = points[rest] - means[classes[rest]]
        pooled = (1 - gaussian_head.SHRINKAGE) * around.T @ around / len(points)
        precision = np.linalg.inv(pooled + gaussian_head.SHRINKAGE * evenly * np.eye(points.shape[1]))
        expected = points[i] @ precision @ means.T - 0.5 * np.einsum("ij,ij->i", means @ precision, means)
        np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-3)


def test_probabilities_are_as_sure_as_they_are_right() -> None:
    points, classes = clouds(noise=2.0, each=200)
    head, right = GaussianHead.fit(points[::2], classes[::2], CLASSES)
    outputs = np.stack([head.outputs(point) for point in points[1::2]])
    np.testing.assert_allclose(outputs.sum(axis=1), 1, atol=1e-4)
    hit = outputs.argmax(axis=1) == classes[1::2]
    assert outputs.max(axis=1).mean() == pytest.approx(hit.mean(), abs=0.1)
    assert right == pytest.approx(hit.mean(), abs=0.06)


def test_a_class_of_one_example_is_no_cloud() -> None:
    with pytest.raises(ValueError, match="one example"):
        GaussianHead.fit(np.eye(3, dtype=np.float32), np.array([0, 0, 1], np.int32), 2)


@pytest.mark.parametrize("kind", [KernelHead, GaussianHead])
def test_what_is_kept_says_the_same(kind: type[KernelHead] | type[GaussianHead]) -> None:
    points, classes = clouds(noise=1.0, each=20)
    head, _ = kind.fit(points, classes, CLASSES)
    kept = kind.from_arrays(head.arrays())
    assert kept.shape == head.shape == (24, CLASSES)
    np.testing.assert_allclose(kept.outputs(points[0]), head.outputs(points[0]), atol=1e-2)
    name = next(iter(head.arrays()))
    with pytest.raises(ValueError, match=name):
        kind.from_arrays({**head.arrays(), name: head.arrays()[name][:, :-1]})
    with pytest.raises(KeyError):
        kind.from_arrays({name: head.arrays()[name]})
