"""Images in object storage to batches."""

from typing import TYPE_CHECKING

from apdist._face import lazily

if TYPE_CHECKING:
    from apdist.data.catalogue.catalogue import read_catalogue as read_catalogue
    from apdist.data.plan.batch_sampler import Plan as Plan
    from apdist.data.plan.batch_sampler import PlanSummary as PlanSummary

_HOMES = {
    **dict.fromkeys(["read_catalogue"], "apdist.data.catalogue.catalogue"),
    **dict.fromkeys(["Plan", "PlanSummary"], "apdist.data.plan.batch_sampler"),
}
__all__ = ["Plan", "PlanSummary", "read_catalogue"]

__getattr__ = lazily(__name__, _HOMES)
