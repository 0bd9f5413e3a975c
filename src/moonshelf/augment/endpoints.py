"""Titles by a chat model that sees the photo, photos by a model that edits images (MOON2.0 2511.12449, 2.4).

The paper's prompts are not published; these are ours, and their text is part of the name of who made a thing, so that
another prompt makes everything anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from moonshelf.augment.makers import Rng
from moonshelf.augment.texts import LONGEST, Piece
from moonshelf.remote import Endpoint, Refused
from moonshelf.shop.decode import ImageError, decode_image
from moonshelf.types import Product
from moonshelf.workspace import digest

SYSTEM = (
    "You complete product titles for a shop's search engine. You get what the shop knows of a product as JSON, and "
    "sometimes its photo. Answer with a JSON object alone: "
    '{"title": "..."} with one title in the language of the given title. Keep what the given title says; add brand, '
    "kind, material, colour, pattern and use where the facts or the photo show them. Invent nothing, praise nothing."
)
SCHEMA = {
    "type": "object",
    "properties": {"title": {"type": "string"}},
    "required": ["title"],
    "additionalProperties": False,
}
PROMPTS = {
    "standard": "Remove everything but the product. Show the whole product centred on a plain white background. "
    "Do not change the product.",
    "ground": "Keep the product exactly as it is. Put it before another background, {scene}.",
    "view": "Show the same product from another side, {side}, on a plain background. Keep its shape, colour and print.",
    "scale": "Show the same product smaller, {place} of the picture, in {light}. Do not change the product.",
    "detail": "Show a close-up of the most telling part of the product, sharp and filling the picture.",
}
CHOICES = {
    "scene": ("a wooden table", "a bright room", "a grey studio wall", "a street", "grass and trees"),
    "side": ("a little from the left", "a little from the right", "slightly from above"),
    "place": ("in the middle", "at the left", "at the right"),
    "light": ("daylight", "warm evening light", "dim light", "hard light from one side"),
}


class ChatWriter:
    """Titles by a chat model; facts go as JSON, so that a title cannot pose as an instruction's end."""

    def __init__(self, endpoint: Endpoint, *, pictured: bool = True) -> None:
        self.endpoint, self.pictured = endpoint, pictured
        self.name = f"{endpoint.config.model} {digest([endpoint.config.url, SYSTEM, SCHEMA, pictured])}"

    def write(self, product: Product, photo: Image.Image | None) -> list[Piece]:
        """One piece that says it all; [] when the model adds nothing.

        Raises:
            Refused: no title to start from is no refusal, an answer that cannot be read is.
        """
        if not product.title.strip():
            return []
        facts = {
            "title": product.title, "brand": product.brand, "category": product.category,
            "attributes": product.attributes, "description": product.description[:2000],
        }  # fmt: skip
        asked = json.dumps({k: v for k, v in facts.items() if v}, ensure_ascii=False)
        answer = self.endpoint.chat(SYSTEM, asked, [photo] if photo is not None else [], schema=SCHEMA)
        title = read_title(answer)
        if title.casefold() == product.title.strip().casefold():
            return []
        return [Piece(title, f"chat {self.endpoint.config.model}")]


def read_title(answer: str) -> str:
    """The title in a model's answer: a JSON object, bare or fenced.

    Raises:
        Refused: no such object, or a title that is empty, too long or of several lines.
    """
    text = answer.strip()
    fenced = re.fullmatch(r"```(?:json)?\s*(.*?)\s*```", text, re.DOTALL)
    try:
        value = json.loads(fenced[1] if fenced else text)
    except ValueError as error:
        raise Refused("the answer is not the JSON that was asked for") from error
    title = value.get("title") if isinstance(value, dict) else None
    if not isinstance(title, str) or not title.strip():
        raise Refused("the answer holds no title")
    title = title.strip()
    if len(title) > LONGEST or any(not c.isprintable() for c in title):
        raise Refused(f"the title has control characters or more than {LONGEST} characters")
    return title


class EditPainter:
    """Photos by an image-edit model, a prompt a recipe."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.name = f"{endpoint.config.model} {digest([endpoint.config.url, PROMPTS, CHOICES])}"

    def paint(
        self, photo: Image.Image, recipes: Sequence[str], rng: Rng
    ) -> Iterator[tuple[str, Image.Image | str]]:
        """See ``makers.Painter``."""
        for recipe in recipes:
            try:
                data = self.endpoint.edit(photo, prompt_of(recipe, rng(recipe)))
                yield recipe, decode_image(data)
            except Refused as error:
                yield recipe, str(error)
            except ImageError as error:
                yield recipe, f"what the endpoint gave is {error.reason}"


def prompt_of(recipe: str, rng: np.random.Generator) -> str:
    """The words for a recipe, its choices drawn."""
    drawn = {name: choices[int(rng.integers(len(choices)))] for name, choices in CHOICES.items()}
    return PROMPTS[recipe].format(**drawn)
