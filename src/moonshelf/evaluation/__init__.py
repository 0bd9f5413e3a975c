"""Room 6, pure metrics with intervals and the benchmark tasks.

The function ``image_search`` is in the module of that name.
"""

from moonshelf.evaluation.image_search import search_recall, text_search
from moonshelf.evaluation.metrics import (
    bootstrap_interval,
    first_hit_ranks,
    mrr,
    paired_difference,
    recall_at,
)
from moonshelf.evaluation.result import SearchResult

ImageSearchResult = SearchResult

__all__ = [
    "ImageSearchResult",
    "SearchResult",
    "bootstrap_interval",
    "first_hit_ranks",
    "mrr",
    "paired_difference",
    "recall_at",
    "search_recall",
    "text_search",
]
