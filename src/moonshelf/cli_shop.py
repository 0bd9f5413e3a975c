"""How every verb names a shop."""

from __future__ import annotations

import argparse


def shop_argument(p: argparse.ArgumentParser) -> None:
    """``SHOP`` and ``--fetch``."""
    p.add_argument("shop", metavar="SHOP")
    fetch_option(p)


def fetch_option(p: argparse.ArgumentParser) -> None:
    """``--fetch``: a work folder that was read with it is read again without it, so every verb that reads has it."""
    p.add_argument(
        "--fetch",
        nargs="?",
        const="public",
        choices=("public", "any"),
        help="fetch photos that are web addresses, from public machines (default) or any; without it they are refused",
    )
