"""Room 3, the model: text, photos or both to one vector."""

from moonshelf.encoder.compact import CompactConfig, CompactEncoder
from moonshelf.encoder.core import photo_reader, prepare_photo
from moonshelf.encoder.inputs import Item, collate, prepare_image, product_text
from moonshelf.encoder.store import find_encoder, load_encoder, save_encoder

ProductEncoder = CompactEncoder

__all__ = [
    "CompactConfig",
    "CompactEncoder",
    "Item",
    "ProductEncoder",
    "collate",
    "find_encoder",
    "load_encoder",
    "photo_reader",
    "prepare_image",
    "prepare_photo",
    "product_text",
    "save_encoder",
]
