"""The section of the loss: which options belong to which loss, and sums of losses."""

from typing import Any

import pytest

from apdist.config import Config, LossConfig, config_hash, from_json, override, to_json
from apdist.config.loss_section import fitting


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss.kind": "tripel"}, "did you mean 'triplet'"),
        ({"loss.kind": "pml:"}, "or pml:NAME, got 'pml:'"),
        ({"loss.num_bins": 1}, "at least 2, got 1"),
        ({"loss.cache_mib": -1}, "loss.cache_mib must be at least 0"),
        ({"loss.min_score": 1.0}, "must be below"),
        ({"loss.margin": "wide"}, "loss.margin must be of type float or auto, got 'wide'"),
        ({"loss.ks": 3}, "loss.ks must be a list, got 3"),
        ({"loss.ks": ["a"]}, "loss.ks must be of type int"),
        (
            {"loss.margin": 0.2},
            r"loss.margin 0.2 is no option of ap, which has num_bins, .*, include_self \(those "
            r"that have it: triplet, contrastive, arcface, cosface, proxy_anchor\); leave it out",
        ),
        (
            {"loss.kind": "triplet", "loss.ks": [1, 2]},
            r"loss.ks 1 2 is no option of triplet, which has margin \(.*: recall_at_k\)",
        ),
        ({"loss.kind": "triplet", "loss.include_self": "no"}, "include_self no is no option"),
        (
            {"loss.kind": "triplet", "loss.arguments": ["margin=1"]},
            r"loss.arguments margin=1 is no option of triplet, .*: pml:NAME\)",
        ),
        ({"loss.kind": "pml:TripletMarginLoss", "loss.margin": 0.2}, "which has centres_rate, arg"),
        ({"loss.kind": "triplet", "loss.margin": 3.0}, r"loss.margin must lie in .* \(triplet\)"),
        ({"loss.kind": "pml:X", "loss.arguments": ["a=b"]}, r"loss.arguments: 'b' of a is no lit"),
        ({"loss.terms": ["ap"]}, "must be NAME=WEIGHT with weights above 0, .* got 'ap'"),
        ({"loss.terms": ["ap=0"]}, "got 'ap=0'"),
        ({"loss.terms": ["ap=nan"]}, "got 'ap=nan'"),
        ({"loss.terms": ["ap=1", "ap=2"]}, "names 'ap' twice"),
        ({"loss.terms": ["ap=1", "tripel=2"]}, "did you mean 'triplet'"),
        ({"loss.terms": ["ap=1", "tie_aware=2"]}, "one listwise loss, got ap and tie_aware"),
        ({"loss.terms": ["ap=1"], "loss.kind": "triplet"}, r"loss.kind \(triplet\) or loss.terms"),
        (
            {"loss.terms": ["triplet=1", "arcface=1"], "loss.margin": 0.2},
            "loss.margin 0.2 could be of triplet or of arcface: in a sum of both, leave it out",
        ),
        (
            {"loss.terms": ["ap=1", "calibration=1"], "loss.margin": 0.2},
            r"no option of 1 ap \+ 1 calibration, which has num_bins, .*, positive_margin",
        ),
        ({"loss.matryoshka": [0, 4]}, "of at least 1, .*; got 0 4"),
        ({"loss.matryoshka": [4, 4]}, "each larger than the one before, as 64 128; got 4 4"),
    ],
)
def test_a_bad_option_of_a_run_is_refused_with_its_name(
    change: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        override(Config(), change)
    assert "\n" not in str(refused.value)


def test_a_loss_of_pytorch_metric_learning_is_left_to_it() -> None:
    changes = {"loss.kind": "pml:CircleLoss", "loss.arguments": ["m=0.4"]}
    loss = override(Config(), changes).loss
    assert loss.kind == "pml:CircleLoss"
    assert loss.options_of(loss.kind) == {"arguments": ("m=0.4",)}


def test_options_that_are_not_chosen_are_left_to_the_loss() -> None:
    assert LossConfig(kind="triplet").options_of("triplet") == {}
    assert LossConfig(kind="triplet", margin=0.2).options_of("triplet") == {"margin": 0.2}
    assert LossConfig(kind="smooth_ap", include_self="no").options_of("smooth_ap") == {
        "include_self": False
    }
    assert LossConfig(num_bins=9).options_of("ap") == {
        "num_bins": 9,
        "min_score": -1.0,
        "max_score": 1.0,
        "cache_mib": "auto",
        "precision": "float32",
    }


def test_terms_are_losses_with_weights() -> None:
    loss = LossConfig(terms=("ap=1", "pml:TripletMarginLoss=5e-1"), arguments=("margin=0.3",))
    assert loss.weights == {"ap": 1.0, "pml:TripletMarginLoss": 0.5}
    assert loss.shown == "1 ap + 0.5 pml:TripletMarginLoss"
    assert (LossConfig(kind="triplet").weights, LossConfig().shown) == ({"triplet": 1.0}, "ap")
    assert LossConfig(kind="triplet", terms=("triplet=1", "ap=1")).weights["ap"] == 1
    assert loss.options_of("ap")["num_bins"] == 20
    assert loss.options_of("pml:TripletMarginLoss") == {"arguments": ("margin=0.3",)}


def test_losses_of_first_numbers_are_named_and_shown() -> None:
    alone = LossConfig(matryoshka=(4, 16))
    assert alone.shown == "ap, matryoshka 4 16"
    assert alone.names_of_terms == ["at_4", "at_16", "at_whole"]
    sums = LossConfig(matryoshka=(4,), terms=("ap=1", "triplet=2"))
    assert sums.shown == "1 ap + 2 triplet, matryoshka 4"
    assert sums.names_of_terms == ["ap", "triplet", "at_4", "at_whole"]
    assert LossConfig().names_of_terms == []


def test_a_rate_of_centres_is_the_network_s_unless_it_is_chosen() -> None:
    assert LossConfig(kind="arcface").rate_of_centres == 1.0
    assert LossConfig(kind="arcface", centres_rate=100.0).rate_of_centres == 100.0


def test_options_of_several_values_survive_a_file() -> None:
    changes: dict[str, Any] = {"loss.kind": "recall_at_k", "loss.ks": [1, 4]}
    changes |= {"loss.recall_temperatures": [1, 4.5]}
    config = override(Config(), changes)
    assert (config.loss.ks, config.loss.recall_temperatures) == ((1, 4), (1.0, 4.5))
    assert from_json(to_json(config)) == config
    assert config_hash(from_json(to_json(config))) == config_hash(config)
    assert config_hash(config) != config_hash(override(config, {"loss.ks": [1, 2]}))


def test_options_that_a_changed_loss_does_not_have_are_left_out() -> None:
    changes = {"loss.kind": "triplet", "loss.margin": 0.2, "loss.num_bins": 9, "data.shards": "x"}
    fit = {"loss.kind": "triplet", "loss.margin": 0.2, "data.shards": "x"}
    assert fitting(changes, LossConfig()) == fit
    del changes["loss.kind"]
    assert fitting(changes, LossConfig()) == {"loss.num_bins": 9, "data.shards": "x"}
    sums = {"loss.terms": ["triplet=1", "ap=1"], "loss.margin": 0.2, "loss.ks": [3]}
    assert list(fitting(sums, LossConfig())) == ["loss.terms", "loss.margin"]
