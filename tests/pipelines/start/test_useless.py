"""Options that are typed for a loss that does not have them."""

import pytest

from apdist.config import LossConfig
from apdist_verbs.start.start import read_start
from apdist_verbs.start.useless import refuse_useless


def test_bins_are_no_option_of_another_loss_where_they_are_typed() -> None:
    _, options = read_start(["glyphs", "--loss.kind", "triplet"])
    assert options.config.loss.num_bins == 40  # the preset's, for the loss that it begins with
    for word in ("--loss.num-bins=40", "--loss.num_bins", "--loss.cache-mib"):
        typed = [word] if "=" in word else [word, "40"]
        with pytest.raises(ValueError, match=r"is no option of triplet, which has margin"):
            read_start(["glyphs", "--loss.kind", "triplet", *typed])


def test_an_option_of_one_of_the_losses_is_welcome() -> None:
    triplet, listwise = LossConfig(kind="triplet", margin=0.3), LossConfig(num_bins=7)
    argv = ["glyphs", "--loss.kind", "ap", "--loss.num-bins", "7", "--loss.margin", "0.3", "--x"]
    refuse_useless(argv, triplet, listwise)
    with pytest.raises(ValueError, match="num_bins 20 is no option of triplet"):
        refuse_useless(argv, triplet)
    refuse_useless(["--loss.margin", "auto"], listwise)
