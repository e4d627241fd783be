from apdist.training.sweeps.words import FIRST, SECOND, name_of


def test_each_trial_of_a_sweep_has_a_name_of_its_own_that_stays() -> None:
    names = [name_of(number, "mine") for number in range(2 * len(FIRST) * len(SECOND))]
    assert len(set(names)) == len(names)
    assert names[0] != name_of(0, "another")
    assert names[:2] == [name_of(0, "mine"), name_of(1, "mine")]
    assert all(name.replace("-", "").isalpha() for name in names[: len(FIRST) * len(SECOND)])
