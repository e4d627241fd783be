"""Options of the losses to compare with: what they refuse, how arguments are read."""

from typing import Any

import pytest

from apdist.config import baselines
from apdist.config.baselines import arguments_of


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("Triplet", {"margin": 2.5}, r"margin must lie in \[0, 2\], got 2.5"),
        ("Triplet", {"margin": float("nan")}, "margin must lie in"),
        ("Contrastive", {"margin": -0.1}, "margin must lie in"),
        ("Calibration", {"positive_margin": 1.1}, "positive_margin must lie in"),
        ("Calibration", {"negative_margin": -1.1}, "negative_margin must lie in"),
        ("MultiSimilarity", {"alpha": 0.0}, "alpha must be a finite number above 0, got 0.0"),
        ("MultiSimilarity", {"beta": float("inf")}, "beta must be a finite number above 0"),
        ("MultiSimilarity", {"base": 2.0}, "base must lie in"),
        ("MultiSimilarity", {"epsilon": -3.0}, "epsilon must lie in"),
        ("SmoothAveragePrecision", {"temperature": -1.0}, "temperature must be a finite"),
        ("RecallAtK", {"ks": ()}, "ks must name one k at least"),
        ("RecallAtK", {"ks": (4, 0)}, "ks must be at least 1, got 0"),
        ("RecallAtK", {"rank_temperature": 0.0}, "rank_temperature must be"),
        ("RecallAtK", {"recall_temperature": 0.0}, "recall_temperature must be"),
        (
            "RecallAtK",
            {"ks": (1, 4), "recall_temperatures": (1.0,)},
            r"must be one for each of ks \(1 4\), got 1; give 2",
        ),
        ("RecallAtK", {"ks": (1,), "recall_temperatures": (0.0,)}, "recall_temperatures must be"),
        (
            "RecallAtK",
            {"ks": (1,), "recall_temperature": 2.0, "recall_temperatures": (1.0,)},
            "got both; leave one out",
        ),
        ("ArcFace", {"margin": 3.2}, "margin must lie in"),
        ("ArcFace", {"scale": 0.0}, "scale must be"),
        ("CosFace", {"margin": 2.2}, "margin must lie in"),
        ("CosFace", {"scale": 0.0}, "scale must be"),
        ("ProxyAnchor", {"margin": 2.2}, "margin must lie in"),
        ("ProxyAnchor", {"alpha": 0.0}, "alpha must be"),
        ("ProxyAnchor", {"centres_rate": 0.0}, "centres_rate must be"),
        ("NormalisedSoftmax", {"temperature": 0.0}, "temperature must be"),
        ("MetricLearning", {"arguments": ("margin",)}, "arguments must be NAME=LITERAL"),
    ],
)
def test_what_means_nothing_is_refused(kind: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(baselines, f"{kind}Options")(**options)


def test_arguments_are_literals() -> None:
    texts = ("margin=0.3", "swap = True", "kinds=['a', 'b']", "text='x=y'", "none=None")
    assert arguments_of(texts) == {
        "margin": 0.3,
        "swap": True,
        "kinds": ["a", "b"],
        "text": "x=y",
        "none": None,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("margin", "NAME=LITERAL, as margin=0.3, got 'margin'"),
        ("=3", "NAME=LITERAL"),
        ("a.b=3", "NAME=LITERAL"),
        ("margin=", "'' of margin is no literal"),
        ("margin=wide", "'wide' of margin is no literal; .* text in quotes"),
        ("margin=__import__('os').getcwd()", "is no literal"),
        ("margin=" + "(" * 3000, "is no literal"),
    ],
)
def test_what_is_no_literal_is_refused_and_not_run(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        arguments_of((text,))
    with pytest.raises(ValueError, match="names 'margin' twice"):
        arguments_of(("margin=1", "margin=2"))
