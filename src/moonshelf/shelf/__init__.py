"""Room 5, product vectors: embed a shop, keep the vectors, search them.

The function ``search`` is in the module of that name.
"""

from moonshelf.encoder.core import Photos
from moonshelf.shelf.embed import embed_shop, product_request
from moonshelf.shelf.index import Index, allowed_rows, build_index
from moonshelf.shelf.queries import embed_images, embed_matrix, embed_requests, embed_texts
from moonshelf.shelf.search import Hit, format_hits, hits_json
from moonshelf.shelf.store import Shelf
from moonshelf.shelf.stream import Embedder, Request

__all__ = [
    "Embedder",
    "Hit",
    "Index",
    "Photos",
    "Request",
    "Shelf",
    "allowed_rows",
    "build_index",
    "embed_images",
    "embed_matrix",
    "embed_requests",
    "embed_shop",
    "embed_texts",
    "format_hits",
    "hits_json",
    "product_request",
]
