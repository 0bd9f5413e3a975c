"""Behaviour without pictures, for the tests of the demo shop."""

from __future__ import annotations

from dataclasses import dataclass

from moonshelf.shop.demo.behaviour import ImpressionTable, SearchRow
from moonshelf.shop.demo.catalog import Item
from moonshelf.shop.demo.users import F64, Users


@dataclass(frozen=True)
class World:
    """Behaviour without pictures, large enough for statistics."""

    items: list[Item]
    users: Users
    utility: F64
    taste: F64
    pop: F64
    searches: list[SearchRow]
    impressions: ImpressionTable
