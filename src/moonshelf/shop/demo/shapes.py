"""The shape of every category: its variants, with names in English and Chinese."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from moonshelf.shop.demo import shapes_gear as gear
from moonshelf.shop.demo import shapes_home as home
from moonshelf.shop.demo import shapes_worn as worn
from moonshelf.shop.demo.geometry import Shape


@dataclass(frozen=True)
class Variant:
    """One silhouette of a category."""

    name: str
    zh: str
    build: Callable[[], Shape]


_MUG_STRAIGHT = [(0.3, 0.0), (0.34, 0.03), (0.345, 0.2), (0.345, 0.5), (0.345, 0.76)]
_MUG_TAPER = [(0.22, 0.0), (0.25, 0.03), (0.29, 0.25), (0.34, 0.5), (0.385, 0.72)]
_MUG_ROUND = [(0.2, 0.0), (0.28, 0.04), (0.38, 0.22), (0.4, 0.38), (0.34, 0.58), (0.33, 0.64)]
_MUG_TALL = [(0.22, 0.0), (0.25, 0.03), (0.255, 0.4), (0.27, 0.8), (0.29, 0.98)]
_MUG_FOOT = [(0.2, 0.0), (0.17, 0.06), (0.3, 0.18), (0.38, 0.4), (0.37, 0.6), (0.39, 0.68)]

VARIANTS: dict[str, tuple[Variant, ...]] = {
    "mug": (
        Variant("straight", "直身", lambda: home.mug(_MUG_STRAIGHT, (0.2, 0.036, 1.15))),
        Variant("tapered", "锥形", lambda: home.mug(_MUG_TAPER, (0.19, 0.036, 1.0), rim=True)),
        Variant("round-belly", "圆肚", lambda: home.mug(_MUG_ROUND, (0.17, 0.042, 1.0))),
        Variant("tall", "高款", lambda: home.mug(_MUG_TALL, (0.22, 0.03, 1.35), square=True)),
        Variant("footed", "高脚", lambda: home.mug(_MUG_FOOT, (0.16, 0.032, 1.1), rim=True)),
    ),
    "teapot": (
        Variant(
            "round",
            "圆形",
            lambda: home.teapot([(0.22, 0.0), (0.34, 0.08), (0.42, 0.3), (0.32, 0.52), (0.2, 0.58)], 0.56),
        ),
        Variant(
            "tall",
            "高身",
            lambda: home.teapot(
                [(0.26, 0.0), (0.31, 0.05), (0.28, 0.4), (0.22, 0.7), (0.18, 0.78)], 0.76, lid=0.18
            ),
        ),
        Variant(
            "flat",
            "扁形",
            lambda: home.teapot(
                [(0.3, 0.0), (0.42, 0.08), (0.48, 0.2), (0.36, 0.36), (0.2, 0.4)], 0.4, bail=True
            ),
        ),
        Variant(
            "pear",
            "梨形",
            lambda: home.teapot(
                [(0.26, 0.0), (0.38, 0.12), (0.36, 0.3), (0.22, 0.55), (0.15, 0.64)], 0.62, lid=0.15
            ),
        ),
        Variant(
            "bail-handle",
            "提梁",
            lambda: home.teapot(
                [(0.24, 0.0), (0.36, 0.1), (0.38, 0.28), (0.3, 0.46), (0.17, 0.5)], 0.5, bail=True
            ),
        ),
    ),
    "vase": (
        Variant(
            "bottle-neck",
            "长颈",
            lambda: home.vase(
                [(0.2, 0.0), (0.29, 0.1), (0.31, 0.28), (0.2, 0.5), (0.085, 0.68), (0.08, 0.9), (0.12, 1.0)]
            ),
        ),
        Variant(
            "cylinder",
            "直筒",
            lambda: home.vase([(0.2, 0.0), (0.22, 0.03), (0.22, 0.5), (0.22, 0.95)], ribs=18),
        ),
        Variant(
            "amphora",
            "双耳",
            lambda: home.vase(
                [(0.13, 0.0), (0.2, 0.12), (0.33, 0.45), (0.27, 0.66), (0.13, 0.78), (0.16, 0.98)], ears=True
            ),
        ),
        Variant(
            "trumpet",
            "喇叭",
            lambda: home.vase([(0.2, 0.0), (0.15, 0.08), (0.12, 0.35), (0.18, 0.7), (0.32, 0.98)]),
        ),
        Variant(
            "bowl",
            "圆腹",
            lambda: home.vase(
                [(0.16, 0.0), (0.34, 0.12), (0.42, 0.32), (0.36, 0.52), (0.2, 0.62), (0.22, 0.7)]
            ),
        ),
    ),
    "lamp": (
        Variant(
            "cone-shade",
            "锥罩",
            lambda: home.lamp(
                [(0.38, 0.56), (0.2, 0.98)], [(0.2, 0.0), (0.22, 0.03), (0.1, 0.08), (0.06, 0.16)]
            ),
        ),
        Variant(
            "drum-shade",
            "鼓罩",
            lambda: home.lamp(
                [(0.34, 0.6), (0.31, 1.0)],
                [(0.13, 0.0), (0.2, 0.12), (0.19, 0.28), (0.07, 0.44), (0.05, 0.5)],
            ),
        ),
        Variant(
            "dome-shade",
            "圆顶罩",
            lambda: home.lamp(
                [(0.36, 0.62), (0.34, 0.72), (0.26, 0.84), (0.14, 0.93), (0.05, 0.96)],
                [(0.2, 0.0), (0.2, 0.04), (0.05, 0.07)],
                0.035,
            ),
        ),
        Variant(
            "desk-arm",
            "折臂",
            lambda: home.lamp(
                [(0.24, 0.36), (0.19, 0.52), (0.07, 0.66), (0.05, 0.7)],
                [(0.22, 0.0), (0.23, 0.03), (0.06, 0.07)],
                arm=True,
            ),
        ),
        Variant(
            "bell-shade",
            "钟形罩",
            lambda: home.lamp(
                [(0.36, 0.58), (0.24, 0.74), (0.17, 1.02)],
                [(0.18, 0.0), (0.2, 0.05), (0.08, 0.14), (0.13, 0.3), (0.05, 0.46)],
            ),
        ),
    ),
    "cushion": (
        Variant("square", "方形", lambda: home.cushion(0.46, 0.46, 0.17, "square")),
        Variant("round", "圆形", lambda: home.cushion(0.46, 0.46, 0.17, "round")),
        Variant("lumbar", "长方", lambda: home.cushion(0.56, 0.34, 0.15, "square")),
        Variant("tufted", "拉扣", lambda: home.cushion(0.46, 0.46, 0.19, "tufted")),
        Variant("fringed", "流苏", lambda: home.cushion(0.42, 0.42, 0.16, "fringed")),
        Variant("bolster", "圆柱", lambda: home.cushion(0.5, 0.24, 0.2, "bolster")),
    ),
    "chair": (
        Variant("solid-back", "实背", lambda: home.chair("solid")),
        Variant("slat-back", "横条背", lambda: home.chair("slats", arms=True)),
        Variant("spindle", "温莎", lambda: home.chair("spindle")),
        Variant("shell", "贝壳", lambda: home.chair("shell")),
        Variant("stool", "高脚凳", lambda: home.chair("stool")),
        Variant("lounge", "休闲", lambda: home.chair("lounge", arms=True)),
    ),
    "bottle": (
        Variant(
            "slim",
            "细长",
            lambda: gear.bottle([(0.13, 0.0), (0.16, 0.03), (0.16, 0.6), (0.11, 0.76), (0.1, 0.86)], "screw"),
        ),
        Variant(
            "wide-mouth",
            "广口",
            lambda: gear.bottle(
                [(0.2, 0.0), (0.23, 0.03), (0.23, 0.6), (0.2, 0.7), (0.19, 0.76)], "loop", 0.2
            ),
        ),
        Variant(
            "sport",
            "运动",
            lambda: gear.bottle(
                [(0.17, 0.0), (0.2, 0.04), (0.19, 0.3), (0.15, 0.45), (0.19, 0.6), (0.17, 0.76)], "straw"
            ),
        ),
        Variant(
            "tumbler",
            "随行杯",
            lambda: gear.bottle([(0.14, 0.0), (0.17, 0.03), (0.2, 0.4), (0.24, 0.82)], "dome"),
        ),
        Variant(
            "flask",
            "保温",
            lambda: gear.bottle([(0.17, 0.0), (0.19, 0.02), (0.19, 0.66), (0.185, 0.7)], "dome", 0.62),
        ),
    ),
    "backpack": (
        Variant("classic", "经典", lambda: worn.backpack(0.33, 0.46, "big", "round")),
        Variant("flap-top", "翻盖", lambda: worn.backpack(0.32, 0.44, "twin", "flap")),
        Variant("roll-top", "卷口", lambda: worn.backpack(0.3, 0.46, "none", "roll")),
        Variant("mini", "迷你", lambda: worn.backpack(0.34, 0.36, "big", "round")),
        Variant("pocketed", "双袋", lambda: worn.backpack(0.34, 0.46, "twin", "round")),
    ),
    "handbag": (
        Variant(
            "tote",
            "托特",
            lambda: worn.handbag(
                [(0.3, 0.0), (0.34, 0.02), (0.38, 0.3), (0.42, 0.58), (0.4, 0.6)],
                0.14,
                (0.17, 1.9),
                clasp=False,
            ),
        ),
        Variant(
            "satchel",
            "剑桥",
            lambda: worn.handbag(
                [(0.38, 0.0), (0.42, 0.03), (0.42, 0.3), (0.4, 0.5), (0.36, 0.54)],
                0.13,
                (0.13, 1.2),
                flap=0.36,
            ),
        ),
        Variant(
            "bucket",
            "水桶",
            lambda: worn.handbag(
                [(0.22, 0.0), (0.28, 0.03), (0.3, 0.3), (0.28, 0.58), (0.26, 0.62)], 0.24, (0.22, 1.9)
            ),
        ),
        Variant(
            "trapeze",
            "梯形",
            lambda: worn.handbag(
                [(0.42, 0.0), (0.46, 0.03), (0.4, 0.26), (0.3, 0.46), (0.27, 0.48)], 0.15, (0.15, 1.3)
            ),
        ),
        Variant(
            "clutch",
            "手拿",
            lambda: worn.handbag(
                [(0.44, 0.0), (0.48, 0.04), (0.48, 0.2), (0.47, 0.34), (0.43, 0.38)],
                0.09,
                (0.4, 2.1),
                flap=0.22,
            ),
        ),
    ),
    "tshirt": (
        Variant("crew-neck", "圆领", lambda: worn.shirt("short", "crew")),
        Variant("v-neck", "V领", lambda: worn.shirt("short", "vee")),
        Variant("long-sleeve", "长袖", lambda: worn.shirt("long", "crew")),
        Variant("tank", "背心", lambda: worn.shirt("none", "crew", 0.95)),
        Variant("polo", "翻领", lambda: worn.shirt("short", "polo")),
        Variant("oversized", "宽松", lambda: worn.shirt("short", "crew", 1.22)),
    ),
    "sneaker": (
        Variant(
            "low-top",
            "低帮",
            lambda: worn.sneaker(
                [
                    (-0.5, 0.05),
                    (-0.49, 0.42),
                    (-0.4, 0.47),
                    (-0.1, 0.42),
                    (0.2, 0.27),
                    (0.42, 0.21),
                    (0.53, 0.05),
                ],
                0.1,
                True,
            ),
        ),
        Variant(
            "high-top",
            "高帮",
            lambda: worn.sneaker(
                [
                    (-0.5, 0.05),
                    (-0.47, 0.64),
                    (-0.38, 0.68),
                    (-0.13, 0.6),
                    (0.0, 0.4),
                    (0.25, 0.26),
                    (0.45, 0.2),
                    (0.53, 0.05),
                ],
                0.1,
                True,
                high=True,
            ),
        ),
        Variant(
            "runner",
            "跑步",
            lambda: worn.sneaker(
                [
                    (-0.52, 0.05),
                    (-0.5, 0.46),
                    (-0.4, 0.48),
                    (-0.15, 0.42),
                    (0.15, 0.31),
                    (0.42, 0.25),
                    (0.55, 0.14),
                    (0.55, 0.05),
                ],
                0.16,
                False,
            ),
        ),
        Variant(
            "slip-on",
            "一脚蹬",
            lambda: worn.sneaker(
                [
                    (-0.5, 0.05),
                    (-0.48, 0.36),
                    (-0.38, 0.38),
                    (-0.08, 0.4),
                    (0.15, 0.3),
                    (0.42, 0.2),
                    (0.53, 0.05),
                ],
                0.08,
                False,
            ),
        ),
    ),
    "watch": (
        Variant("round", "圆盘", lambda: worn.watch("round", "band")),
        Variant("square", "方盘", lambda: worn.watch("square", "band")),
        Variant("tonneau", "酒桶", lambda: worn.watch("tonneau", "links", 0.19)),
        Variant("round-bracelet", "圆盘链带", lambda: worn.watch("round", "links", 0.215)),
        Variant("petite", "小表盘", lambda: worn.watch("round", "band", 0.165)),
    ),
    "headphones": (
        Variant("round-cup", "圆罩", lambda: gear.headphones("round", 0.06)),
        Variant("oval-cup", "椭圆罩", lambda: gear.headphones("oval", 0.08)),
        Variant("square-cup", "方罩", lambda: gear.headphones("square", 0.07)),
        Variant("on-ear", "贴耳", lambda: gear.headphones("small", 0.05)),
    ),
    "speaker": (
        Variant("tower", "立式", lambda: gear.speaker("tower")),
        Variant("cube", "方形", lambda: gear.speaker("cube")),
        Variant("cylinder", "圆柱", lambda: gear.speaker("cylinder")),
        Variant("pill", "胶囊", lambda: gear.speaker("pill")),
        Variant("retro", "复古", lambda: gear.speaker("retro")),
    ),
}


@lru_cache(maxsize=16)
def build_shape(category: str, variant: int) -> Shape:
    """The model of a variant; small cache, because a worker paints one shape after the other."""
    return VARIANTS[category][variant].build()
