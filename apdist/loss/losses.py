"""The table of losses. A new one is a file in this folder and a line here.

It imports nothing, so that the command line knows the names without loading torch.
"""

LOSSES = {
    "ap": "apdist.loss.listwise:AveragePrecisionLoss",
    "tie_aware": "apdist.loss.listwise:TieAwareLoss",
    "tie_aware_simplified": "apdist.loss.listwise:SimplifiedTieAwareLoss",
    "triplet": "apdist.loss.baselines:BatchHardTriplet",
    "contrastive": "apdist.loss.baselines:Contrastive",
    "multi_similarity": "apdist.loss.baselines:MultiSimilarity",
    "smooth_ap": "apdist.loss.baselines:SmoothAveragePrecision",
    "recall_at_k": "apdist.loss.baselines:RecallAtK",
}
"""Name on the command line, and constructor: keyword options in, out comes a `BatchLoss`."""

METRIC_LEARNING = "apdist.loss.baselines:metric_learning"
"""Constructor of pml:NAME, from the name."""
