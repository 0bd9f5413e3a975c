"""A made-up shop with known truth: `make_demo_shop` writes one, with rendered photos and behaviour."""

from moonshelf.shop.demo.make import make_demo_shop

__all__ = ["make_demo_shop"]
