"""Descriptors to ranked lists, figures and search indexes."""

from typing import TYPE_CHECKING

from apdist._face import lazily

if TYPE_CHECKING:
    from apdist.retrieval.expansion import augment_database as augment_database
    from apdist.retrieval.expansion import expand_queries as expand_queries
    from apdist.retrieval.expansion import pool_scales as pool_scales
    from apdist.retrieval.filters import Filter as Filter
    from apdist.retrieval.filters import parse_filter as parse_filter
    from apdist.retrieval.index import build_index as build_index
    from apdist.retrieval.index import load_index as load_index
    from apdist.retrieval.index import save_index as save_index
    from apdist.retrieval.index import write_index as write_index
    from apdist.retrieval.metrics import RetrievalScores as RetrievalScores
    from apdist.retrieval.metrics import score_labelled as score_labelled
    from apdist.retrieval.metrics import score_queries as score_queries
    from apdist.retrieval.protocols.rankings import score_rankings as score_rankings
    from apdist.retrieval.protocols.scores import JudgedScores as JudgedScores
    from apdist.retrieval.protocols.searching import score_judged as score_judged
    from apdist.retrieval.querying.open_index import OpenIndex as OpenIndex
    from apdist.retrieval.querying.opening import open_index as open_index
    from apdist.retrieval.querying.results import SearchResults as SearchResults
    from apdist.retrieval.search_index import SearchIndex as SearchIndex
    from apdist.retrieval.several import SeveralIndexes as SeveralIndexes
    from apdist.retrieval.stored.changing import add_to_index as add_to_index
    from apdist.retrieval.stored.changing import remove_from_index as remove_from_index
    from apdist.retrieval.stored.changing import update_index as update_index

_HOMES = {
    **dict.fromkeys(
        ["augment_database", "expand_queries", "pool_scales"], "apdist.retrieval.expansion"
    ),
    **dict.fromkeys(["Filter", "parse_filter"], "apdist.retrieval.filters"),
    **dict.fromkeys(
        ["build_index", "load_index", "save_index", "write_index"], "apdist.retrieval.index"
    ),
    **dict.fromkeys(
        ["RetrievalScores", "score_labelled", "score_queries"], "apdist.retrieval.metrics"
    ),
    **dict.fromkeys(["JudgedScores"], "apdist.retrieval.protocols.scores"),
    **dict.fromkeys(["score_rankings"], "apdist.retrieval.protocols.rankings"),
    **dict.fromkeys(["score_judged"], "apdist.retrieval.protocols.searching"),
    **dict.fromkeys(["OpenIndex"], "apdist.retrieval.querying.open_index"),
    **dict.fromkeys(["open_index"], "apdist.retrieval.querying.opening"),
    **dict.fromkeys(["SearchResults"], "apdist.retrieval.querying.results"),
    **dict.fromkeys(["SearchIndex"], "apdist.retrieval.search_index"),
    **dict.fromkeys(["SeveralIndexes"], "apdist.retrieval.several"),
    **dict.fromkeys(
        ["add_to_index", "remove_from_index", "update_index"], "apdist.retrieval.stored.changing"
    ),
}
__all__ = [
    "Filter",
    "JudgedScores",
    "OpenIndex",
    "RetrievalScores",
    "SearchIndex",
    "SearchResults",
    "SeveralIndexes",
    "add_to_index",
    "augment_database",
    "build_index",
    "expand_queries",
    "load_index",
    "open_index",
    "parse_filter",
    "pool_scales",
    "remove_from_index",
    "save_index",
    "score_judged",
    "score_labelled",
    "score_queries",
    "score_rankings",
    "update_index",
    "write_index",
]

__getattr__ = lazily(__name__, _HOMES)
