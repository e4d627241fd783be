"""Descriptors to ranked lists, numbers and pictures."""

from typing import TYPE_CHECKING

from apdist._face import lazily

if TYPE_CHECKING:
    from apdist.retrieval.expansion import augment_database as augment_database
    from apdist.retrieval.expansion import expand_queries as expand_queries
    from apdist.retrieval.expansion import pool_scales as pool_scales
    from apdist.retrieval.index import build_index as build_index
    from apdist.retrieval.index import load_index as load_index
    from apdist.retrieval.index import save_index as save_index
    from apdist.retrieval.metrics import RetrievalScores as RetrievalScores
    from apdist.retrieval.metrics import score_labelled as score_labelled
    from apdist.retrieval.metrics import score_queries as score_queries
    from apdist.retrieval.protocols.rankings import score_rankings as score_rankings
    from apdist.retrieval.protocols.scores import JudgedScores as JudgedScores
    from apdist.retrieval.protocols.searching import score_judged as score_judged
    from apdist.retrieval.search_index import SearchIndex as SearchIndex

_HOMES = {
    **dict.fromkeys(
        ["augment_database", "expand_queries", "pool_scales"], "apdist.retrieval.expansion"
    ),
    **dict.fromkeys(["build_index", "load_index", "save_index"], "apdist.retrieval.index"),
    **dict.fromkeys(
        ["RetrievalScores", "score_labelled", "score_queries"], "apdist.retrieval.metrics"
    ),
    **dict.fromkeys(["JudgedScores"], "apdist.retrieval.protocols.scores"),
    **dict.fromkeys(["score_rankings"], "apdist.retrieval.protocols.rankings"),
    **dict.fromkeys(["score_judged"], "apdist.retrieval.protocols.searching"),
    **dict.fromkeys(["SearchIndex"], "apdist.retrieval.search_index"),
}
__all__ = [
    "JudgedScores",
    "RetrievalScores",
    "SearchIndex",
    "augment_database",
    "build_index",
    "expand_queries",
    "load_index",
    "pool_scales",
    "save_index",
    "score_judged",
    "score_labelled",
    "score_queries",
    "score_rankings",
]

__getattr__ = lazily(__name__, _HOMES)
