"""Train image-retrieval embeddings by optimising mean average precision itself."""

from typing import TYPE_CHECKING, Any

from apdist._face import lazily

if TYPE_CHECKING:
    from apdist.config.loss import LossOptions as LossOptions
    from apdist.data.catalogue.catalogue import read_catalogue as read_catalogue
    from apdist.data.plan.batch_sampler import Plan as Plan
    from apdist.data.plan.batch_sampler import PlanSummary as PlanSummary
    from apdist.loss.gradient import score_own_rows as score_own_rows
    from apdist.loss.listwise import AveragePrecisionLoss as AveragePrecisionLoss
    from apdist.loss.listwise import average_precision as average_precision
    from apdist.loss.listwise import (
        average_precision_from_scores as average_precision_from_scores,
    )
    from apdist.loss.listwise import average_precision_loss as average_precision_loss
    from apdist.loss.matryoshka import Matryoshka as Matryoshka
    from apdist.loss.results import Diagnostics as Diagnostics
    from apdist.loss.results import RowScores as RowScores
    from apdist.model.descriptor import DescriptorNet as DescriptorNet
    from apdist.model.pretrained import TrainedModel as TrainedModel
    from apdist.model.pretrained import build_model as build_model
    from apdist.model.pretrained import load_model as load_model
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
    from apdist.training.step.chunks import own_rows as own_rows
    from apdist.training.step.chunks import sizes_of_workers as sizes_of_workers
    from apdist.training.step.options import StepOptions as StepOptions
    from apdist.training.step.results import StepResult as StepResult
    from apdist.training.step.step import global_step as global_step

_HOMES = {
    **dict.fromkeys(["read_catalogue"], "apdist.data.catalogue.catalogue"),
    **dict.fromkeys(["LossOptions"], "apdist.config.loss"),
    **dict.fromkeys(["Plan", "PlanSummary"], "apdist.data.plan.batch_sampler"),
    **dict.fromkeys(["score_own_rows"], "apdist.loss.gradient"),
    **dict.fromkeys(
        [
            "AveragePrecisionLoss",
            "average_precision",
            "average_precision_from_scores",
            "average_precision_loss",
        ],
        "apdist.loss.listwise",
    ),
    **dict.fromkeys(["Matryoshka"], "apdist.loss.matryoshka"),
    **dict.fromkeys(["Diagnostics", "RowScores"], "apdist.loss.results"),
    **dict.fromkeys(["DescriptorNet"], "apdist.model.descriptor"),
    **dict.fromkeys(["TrainedModel", "build_model", "load_model"], "apdist.model.pretrained"),
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
    **dict.fromkeys(["own_rows", "sizes_of_workers"], "apdist.training.step.chunks"),
    **dict.fromkeys(["StepOptions"], "apdist.training.step.options"),
    **dict.fromkeys(["StepResult"], "apdist.training.step.results"),
    **dict.fromkeys(["global_step"], "apdist.training.step.step"),
}
__all__ = [
    "AveragePrecisionLoss",
    "DescriptorNet",
    "Diagnostics",
    "Filter",
    "JudgedScores",
    "LossOptions",
    "Matryoshka",
    "OpenIndex",
    "Plan",
    "PlanSummary",
    "RetrievalScores",
    "RowScores",
    "SearchIndex",
    "SearchResults",
    "SeveralIndexes",
    "StepOptions",
    "StepResult",
    "TrainedModel",
    "add_to_index",
    "augment_database",
    "average_precision",
    "average_precision_from_scores",
    "average_precision_loss",
    "build_index",
    "build_model",
    "expand_queries",
    "global_step",
    "load_index",
    "load_model",
    "open_index",
    "own_rows",
    "parse_filter",
    "pool_scales",
    "read_catalogue",
    "remove_from_index",
    "save_index",
    "score_judged",
    "score_labelled",
    "score_own_rows",
    "score_queries",
    "score_rankings",
    "sizes_of_workers",
    "update_index",
    "write_index",
]

_find = lazily(__name__, _HOMES)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("apdist")
    return _find(name)
