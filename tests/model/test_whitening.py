"""Whitening: figures of published code, the properties that define it, files and refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from apdist.model.moments import Moments
from apdist.model.whitening import (
    Whitening,
    learn_pca_whitening,
    learn_supervised_whitening,
    load_whitening,
    pca_whitening,
    pca_whitening_of,
    save_whitening,
)

# From the published test code of deep-image-retrieval, on this PCA.
IMAGES = [[0.5, 0.5, 0.5, 0.5], [0.1, -0.7, 0.7, 0.1], [0.9, 0.1, -0.3, 0.3]]
MEAN = [0.1, 0.2, -0.1, 0.0]
COMPONENTS = [
    [0.9553364891, -0.2955202067, 0.0, 0.0],
    [0.2955202067, 0.9553364891, 0.0, 0.0],
    [0.0, 0.0, 1.0, 0.0],
    [0.0, 0.0, 0.0, 1.0],
]
VARIANCE = [0.5, 0.2, 0.05, 0.01]
WHITENED = {
    0.25: [
        [0.1627570896, 0.2822921283, 0.5917180607, 0.7373540674],
        [0.1456582425, -0.5920920798, 0.7791038692, 0.1456290027],
        [0.6651252368, 0.1484303903, -0.2979961976, 0.6684123763],
    ],
    0.5: [
        [0.0720405752, 0.1571162217, 0.4657491617, 0.8678723217],
        [0.0895617754, -0.4577853421, 0.85188896, 0.238110203],
        [0.3360581868, 0.0943015617, -0.2677452506, 0.8980448715],
    ],
    0.0: [
        [0.3164660416, 0.4365168026, 0.6469966392, 0.539163866],
        [0.2201168369, -0.7115778936, 0.6620847109, 0.0827605889],
        [0.8988255275, 0.1595180379, -0.2264554068, 0.3396831102],
    ],
}
WHITENED_TO_TWO = [
    [0.4994835398, 0.8663233769],
    [0.2388837402, -0.9710481753],
    [0.9759925247, 0.2178040215],
]
# From cnnimageretrieval-pytorch: mean and |P| that it learned from one data set.
LEARNED_MEAN = [0.0645279618, 0.3939773474, 0.7090650548]
LEARNED_PROJECTION = [
    [0.3359664655, 0.7515631791, 0.6402097184],
    [0.9674733335, 0.2240964027, 0.7707805536],
    [6.4005845176, 7.7783935837, 5.7724404142],
]


def tensor(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def correlated(count: int, dim: int) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(count, dim, generator=generator, dtype=torch.float64)
    mixing = torch.randn(dim, dim, generator=generator, dtype=torch.float64)
    return noise @ mixing + torch.arange(dim)


def before_l2(whitening: Whitening, descriptors: Tensor) -> Tensor:
    weight, bias = whitening.as_linear()
    return descriptors @ weight.T + bias


@pytest.mark.parametrize("power", list(WHITENED))
def test_a_finished_pca_whitens_as_the_published_code_does(power: float) -> None:
    whitening = pca_whitening(tensor(MEAN), tensor(COMPONENTS), tensor(VARIANCE), power=power)
    torch.testing.assert_close(
        whitening(tensor(IMAGES)), tensor(WHITENED[power]), atol=1e-9, rtol=0
    )


def test_fewer_components_whiten_as_the_published_code_does() -> None:
    components, variance = tensor(COMPONENTS)[:2], tensor(VARIANCE)[:2]
    whitening = pca_whitening(tensor(MEAN), components, variance, power=0.25)
    torch.testing.assert_close(
        whitening(tensor(IMAGES)), tensor(WHITENED_TO_TWO), atol=1e-9, rtol=0
    )


def test_learned_projection_is_the_published_one_for_data_of_the_same_mean_and_covariance() -> None:
    # |P| with the signs that make its rows orthogonal; then data of covariance (P^T P)^-1.
    projection = tensor(LEARNED_PROJECTION) * tensor([[1, 1, 1], [1, 1, -1], [1, -1, 1]])
    half = torch.linalg.inv(projection).T * 3**0.5  # (d, d)
    data = torch.cat([half, -half]) + tensor(LEARNED_MEAN)
    whitening = learn_pca_whitening(data, power=0.5)
    torch.testing.assert_close(whitening.mean, tensor(LEARNED_MEAN), atol=1e-9, rtol=0)
    torch.testing.assert_close(
        whitening.projection.abs(), tensor(LEARNED_PROJECTION), atol=1e-6, rtol=0
    )


def test_full_pca_whitening_makes_the_covariance_the_identity() -> None:
    data = correlated(400, 6)
    whitened = before_l2(learn_pca_whitening(data, power=0.5), data)
    torch.testing.assert_close(
        whitened.T @ whitened / len(data), torch.eye(6, dtype=torch.float64), atol=1e-9, rtol=0
    )


def test_whitening_is_full_unless_a_power_is_named() -> None:
    data = correlated(50, 4)
    moments = Moments(4, data.device)
    moments.add(data)
    expected = learn_pca_whitening(data, power=0.5).projection
    assert torch.equal(learn_pca_whitening(data).projection, expected)
    assert torch.equal(pca_whitening_of(moments).projection, expected)
    plain = pca_whitening(torch.zeros(2), torch.eye(2), torch.tensor([4.0, 1.0]))
    assert plain.projection.tolist() == [[0.5, 0.0], [0.0, 1.0]]


def test_power_zero_keeps_lengths_and_orders_axes_by_variance() -> None:
    data = correlated(400, 6)
    rotated = before_l2(learn_pca_whitening(data, power=0.0), data)
    torch.testing.assert_close(rotated.norm(dim=1), (data - data.mean(dim=0)).norm(dim=1))
    variance = rotated.var(dim=0)
    assert variance.tolist() == sorted(variance.tolist(), reverse=True)


def test_whitened_descriptors_have_unit_length_and_the_dtype_of_the_input() -> None:
    data = correlated(50, 6)
    whitened = learn_pca_whitening(data, num_components=4)(data.float())
    assert whitened.dtype == torch.float32
    assert whitened.shape == (50, 4)
    torch.testing.assert_close(whitened.norm(dim=1), torch.ones(50))


def test_whitening_learned_in_tiles_is_that_of_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    data = correlated(100, 5)
    whole = learn_pca_whitening(data)
    monkeypatch.setattr("apdist.model.moments._ROWS_AT_ONCE", 7)
    torch.testing.assert_close(learn_pca_whitening(data).projection, whole.projection)


def test_supervised_whitening_makes_matching_differences_white() -> None:
    data = correlated(600, 5)
    pairs = torch.arange(600).view(300, 2)
    whitening = learn_supervised_whitening(data, pairs)
    weight, _ = whitening.as_linear()
    differences = (data[pairs[:, 0]] - data[pairs[:, 1]]) @ weight.T
    spread = differences.T @ differences / len(pairs)
    torch.testing.assert_close(spread, torch.eye(5, dtype=torch.float64), atol=1e-9, rtol=0)


def test_supervised_whitening_decorrelates_all_descriptors_and_orders_their_variance() -> None:
    data = correlated(600, 5)
    pairs = torch.arange(600).view(300, 2)
    whitening = learn_supervised_whitening(data, pairs)
    torch.testing.assert_close(whitening.mean, data[pairs[:, 0]].mean(dim=0))
    projected = before_l2(whitening, data)
    scatter = projected.T @ projected
    variance = scatter.diag()
    off_diagonal = scatter - variance.diag()
    assert off_diagonal.abs().max() < 1e-9 * variance.max()
    assert variance.tolist() == sorted(variance.tolist(), reverse=True)
    shorter = learn_supervised_whitening(data, pairs, num_components=2)
    torch.testing.assert_close(shorter.projection, whitening.projection[:2])


def test_a_saved_whitening_loads_as_it_was(tmp_path: Path) -> None:
    whitening = learn_pca_whitening(correlated(50, 4), num_components=3)
    save_whitening(whitening, tmp_path / "white ning.safetensors")
    loaded = load_whitening(tmp_path / "white ning.safetensors")
    assert torch.equal(loaded.mean, whitening.mean)
    assert torch.equal(loaded.projection, whitening.projection)
    assert [path.name for path in tmp_path.iterdir()] == ["white ning.safetensors"]


def test_a_file_that_is_no_whitening_is_refused_by_name(tmp_path: Path) -> None:
    broken, other = tmp_path / "broken.safetensors", tmp_path / "other.safetensors"
    broken.write_bytes(b"not safetensors")
    save_file({"mean": torch.ones(2)}, other)
    with pytest.raises(ValueError, match=r"broken.safetensors cannot be read"):
        load_whitening(broken)
    with pytest.raises(ValueError, match=r"other.safetensors is no whitening"):
        load_whitening(other)
    with pytest.raises(ValueError, match=r"absent.safetensors cannot be read"):
        load_whitening(tmp_path / "absent.safetensors")


def test_what_it_was_learned_with_is_kept_and_older_files_know_nothing(tmp_path: Path) -> None:
    plain = Whitening(mean=torch.ones(2), projection=torch.eye(2))
    known = replace(plain, model="m", size=64, scales=(1.0, 2**-0.5), scale_power=3.0)
    known = replace(known, learned_on="a set", images="ab12")
    save_whitening(known, tmp_path / "known.safetensors")
    found = load_whitening(tmp_path / "known.safetensors")
    for name in ("model", "size", "scales", "scale_power", "learned_on", "images"):
        assert getattr(found, name) == getattr(known, name)
    tensors, about = {"mean": plain.mean, "projection": plain.projection}, {"version": "1"}
    about["format"] = "apdist.whitening"
    save_file(tensors, tmp_path / "older.safetensors", about)
    older = load_whitening(tmp_path / "older.safetensors")
    assert (older.model, older.size, older.scales, older.scale_power) == ("", 0, (), 1.0)
    assert (older.learned_on, older.images) == ("", "")
    save_file(tensors, tmp_path / "odd.safetensors", about | {"scales": "one"})
    with pytest.raises(ValueError, match=r"odd.safetensors is damaged \(.*'one'\); learn it again"):
        load_whitening(tmp_path / "odd.safetensors")


def test_axes_without_variance_are_refused() -> None:
    flat = torch.cat([correlated(50, 3), torch.zeros(50, 2, dtype=torch.float64)], dim=1)
    with pytest.raises(ValueError, match="50 samples vary along 3 of 5 dimensions"):
        learn_pca_whitening(flat)
    assert learn_pca_whitening(flat, num_components=3).projection.shape == (3, 5)
    with pytest.raises(ValueError, match="vary along 4 of 8 dimensions"):
        learn_pca_whitening(correlated(5, 8))


def test_too_few_pairs_are_refused() -> None:
    pairs = torch.tensor([[0, 1], [2, 3]])
    with pytest.raises(ValueError, match="2 samples vary along 2 of 5 dimensions"):
        learn_supervised_whitening(correlated(50, 5), pairs)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (torch.zeros(0, 2, dtype=torch.int64), r"expected pairs \(m, 2\)"),
        (torch.zeros(3, dtype=torch.int64), r"expected pairs \(m, 2\)"),
        (torch.tensor([[0, 9]]), "the descriptors have rows 0 to 8"),
        (torch.tensor([[-1, 0]]), "pairs name rows -1 to 0"),
    ],
)
def test_bad_pairs_are_refused(pairs: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        learn_supervised_whitening(correlated(9, 2), pairs)


def test_bad_descriptors_powers_and_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN or infinity"):
        learn_pca_whitening(torch.full((3, 2), torch.nan))
    with pytest.raises(ValueError, match=r"got \(3,\)"):
        learn_pca_whitening(torch.ones(3))
    with pytest.raises(ValueError, match="power must be from"):
        learn_pca_whitening(correlated(9, 2), power=-0.5)
    with pytest.raises(ValueError, match="learned on 2 dimensions, the descriptors have 3"):
        learn_pca_whitening(correlated(9, 2))(torch.ones(1, 3))
    with pytest.raises(ValueError, match=r"expected a projection \(k, d\)"):
        Whitening(mean=torch.ones(2), projection=torch.ones(3, 4))
