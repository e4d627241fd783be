"""Names of trials that a person can say: two words, another pair for each number."""

import hashlib

FIRST = (
    *("amber", "ample", "azure", "bold", "brave", "brisk", "calm", "clear", "coral", "crisp"),
    *("eager", "early", "fair", "fleet", "fond", "fresh", "gentle", "glad", "golden", "green"),
    *("happy", "hazel", "humble", "ivory", "jolly", "keen", "kind", "light", "lively", "lucky"),
    *("mellow", "merry", "mild", "neat", "noble", "olive", "patient", "plain", "proud", "quick"),
    *("quiet", "rapid", "ready", "rosy", "round", "royal", "silent", "silver", "smart", "snowy"),
    *("solid", "steady", "sunny", "swift", "tidy", "trusty", "velvet", "warm", "wise", "young"),
    "zesty",
)
SECOND = (
    *("acorn", "aspen", "badger", "beaver", "birch", "bison", "brook", "canyon", "cedar", "comet"),
    *("condor", "cove", "crane", "dolphin", "dune", "eagle", "elm", "falcon", "fern", "finch"),
    *("fjord", "fox", "gecko", "glade", "harbor", "heron", "hill", "ibis", "island", "jaguar"),
    *("lagoon", "lake", "lark", "lemur", "lily", "lynx", "maple", "meadow", "meteor", "moss"),
    *("otter", "owl", "panda", "pebble", "pine", "plover", "puffin", "rabbit", "raven", "reef"),
    *("river", "robin", "salmon", "seal", "sparrow", "tiger", "tulip", "valley", "willow"),
)
# Both numbers are prime and differ, so that counting on in both gives every pair once.


def name_of(number: int, sweep: str) -> str:
    """The name of a trial: the same for the same ``number`` and ``sweep``, once in each sweep."""
    begin = int.from_bytes(hashlib.sha256(sweep.encode()).digest()[:4], "big")
    place = begin + 17 * number  # neighbours in the lists sound alike
    name = f"{FIRST[place % len(FIRST)]}-{SECOND[place % len(SECOND)]}"
    lap = number // (len(FIRST) * len(SECOND))
    return f"{name}-{lap + 1}" if lap else name
