"""The module faiss, imported on demand: whether it is there, and has a GPU."""

from __future__ import annotations

import logging
import warnings
from typing import Any

from apdist.config.extras import install

logger = logging.getLogger(__name__)


def import_faiss() -> Any:
    """The module ``faiss``.

    Raises:
        ValueError: it is not installed, or installed without the libraries that it needs.
    """
    try:
        with warnings.catch_warnings():
            # Its SWIG types lack a __module__, which Python 3.12 deprecates.
            warnings.simplefilter("ignore", DeprecationWarning)
            import faiss
    except Exception as error:  # built for another numpy it raises AttributeError, for example
        raise ValueError(
            f"faiss does not import ({error}); {install('faiss-cpu')} or {install('faiss-gpu')}, "
            "never both, or use kind='exact'"
        ) from error
    return faiss


def has_faiss() -> bool:
    """Whether ``faiss`` imports."""
    try:
        import_faiss()
    except ValueError as error:
        logger.info("searching without faiss: %s", error)
        return False
    return True


def has_gpu() -> bool:
    """Whether ``faiss`` imports and has a GPU to search on."""
    # faiss-cpu has get_num_gpus, too; only faiss-gpu has the resources.
    return has_faiss() and num_gpus(import_faiss()) > 0


def num_gpus(faiss: Any) -> int:
    """How many GPUs it has to search on."""
    return int(faiss.get_num_gpus()) if hasattr(faiss, "StandardGpuResources") else 0


def first_line(error: Exception) -> str:
    """Of what C++ has said."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
