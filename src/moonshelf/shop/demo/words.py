"""The words of the demo shop, English and Chinese: categories, colours, materials, brands; all made up."""

from __future__ import annotations

from dataclasses import dataclass

Rgb = tuple[int, int, int]
Names = tuple[tuple[str, ...], tuple[str, ...]]  # English, Chinese; the first is the usual one


def _names(english: str, chinese: str) -> Names:
    return tuple(english.split("|")), tuple(chinese.split("|"))


@dataclass(frozen=True)
class Category:
    """A leaf of the two-level category tree.

    ``materials``: keys of MATERIALS; ``price``: median in euros; ``patterned``: share of the designs with a
    pattern; ``scenes``: the interests people search it with (text.INTERESTS).
    """

    key: str
    path: str
    names: Names
    materials: tuple[str, ...]
    price: float
    patterned: float
    scenes: tuple[str, ...]


def _category(
    key: str,
    path: str,
    english: str,
    chinese: str,
    materials: str,
    price: float,
    patterned: float,
    scenes: str,
) -> Category:
    names = _names(english, chinese)
    return Category(key, path, names, tuple(materials.split()), price, patterned, tuple(scenes.split()))


CATEGORIES: tuple[Category, ...] = (
    _category(
        "mug",
        "Home > Mugs",
        "mug|coffee mug|cup",
        "马克杯|杯子|咖啡杯",
        "ceramic stoneware enamel glass",
        14,
        0.55,
        "gift office budget kids",
    ),
    _category(
        "teapot",
        "Home > Teapots",
        "teapot|tea pot|tea kettle",
        "茶壶|泡茶壶",
        "ceramic stoneware enamel steel",
        38,
        0.4,
        "gift party vintage luxury",
    ),
    _category(
        "vase",
        "Home > Vases",
        "vase|flower vase",
        "花瓶|插花瓶",
        "ceramic stoneware glass",
        32,
        0.45,
        "gift minimal vintage luxury",
    ),
    _category(
        "lamp",
        "Home > Lamps",
        "table lamp|lamp|desk lamp",
        "台灯|灯具|床头灯",
        "linen metal plastic",
        59,
        0.3,
        "office minimal kids vintage",
    ),
    _category(
        "cushion",
        "Home > Cushions",
        "cushion|throw pillow|pillow",
        "抱枕|靠垫|靠枕",
        "cotton linen velvet",
        22,
        0.65,
        "gift kids budget party",
    ),
    _category(
        "chair",
        "Furniture > Chairs",
        "chair|seat",
        "椅子|座椅",
        "wood plastic fabric leather",
        119,
        0.25,
        "office minimal vintage luxury",
    ),
    _category(
        "bottle",
        "Sport > Bottles",
        "water bottle|bottle|flask",
        "水壶|水杯|运动水壶",
        "steel plastic glass",
        24,
        0.45,
        "outdoor gym kids budget",
    ),
    _category(
        "backpack",
        "Bags > Backpacks",
        "backpack|rucksack|school bag",
        "双肩包|背包|书包",
        "canvas nylon leather",
        64,
        0.45,
        "outdoor office travel kids",
    ),
    _category(
        "handbag",
        "Bags > Handbags",
        "handbag|purse|shoulder bag",
        "手提包|女包|手袋",
        "leather canvas velvet",
        89,
        0.35,
        "office party luxury gift",
    ),
    _category(
        "tshirt",
        "Clothing > T-shirts",
        "t-shirt|tee|top",
        "T恤|短袖|上衣",
        "cotton linen jersey",
        21,
        0.6,
        "gym budget party kids",
    ),
    _category(
        "sneaker",
        "Shoes > Sneakers",
        "sneakers|trainers|running shoes",
        "运动鞋|板鞋|跑鞋",
        "canvas leather mesh",
        79,
        0.4,
        "gym outdoor travel budget",
    ),
    _category(
        "watch",
        "Accessories > Watches",
        "watch|wristwatch",
        "手表|腕表",
        "leather nylon silicone",
        145,
        0.25,
        "gift luxury minimal outdoor",
    ),
    _category(
        "headphones",
        "Electronics > Headphones",
        "headphones|headset",
        "耳机|头戴式耳机",
        "plastic metal leather",
        99,
        0.2,
        "office travel gym luxury",
    ),
    _category(
        "speaker",
        "Electronics > Speakers",
        "speaker|bluetooth speaker|loudspeaker",
        "音箱|蓝牙音箱|音响",
        "wood plastic fabric",
        85,
        0.3,
        "party travel vintage office",
    ),
)
BY_KEY = {c.key: c for c in CATEGORIES}

COLOURS: dict[str, tuple[Rgb, Names]] = {
    "black": ((38, 38, 42), _names("black|jet black", "黑色|纯黑")),
    "white": ((238, 237, 233), _names("white|ivory white", "白色|米白")),
    "grey": ((138, 141, 146), _names("grey|gray|slate", "灰色|深灰")),
    "beige": ((216, 196, 164), _names("beige|sand|cream", "米色|杏色")),
    "brown": ((116, 76, 50), _names("brown|chocolate", "棕色|咖啡色")),
    "red": ((196, 42, 44), _names("red|scarlet", "红色|大红")),
    "burgundy": ((112, 28, 50), _names("burgundy|wine red", "酒红色|枣红")),
    "orange": ((232, 122, 44), _names("orange|tangerine", "橙色|橘色")),
    "yellow": ((240, 198, 62), _names("yellow|mustard", "黄色|姜黄")),
    "olive": ((118, 122, 62), _names("olive|khaki", "军绿色|橄榄绿")),
    "green": ((48, 128, 80), _names("green|emerald", "绿色|翠绿")),
    "mint": ((164, 214, 188), _names("mint|sage", "薄荷绿|浅绿")),
    "teal": ((30, 124, 130), _names("teal|petrol", "青色|孔雀蓝")),
    "sky": ((132, 186, 226), _names("sky blue|light blue", "天蓝色|浅蓝")),
    "blue": ((44, 92, 184), _names("blue|cobalt", "蓝色|宝蓝")),
    "navy": ((34, 48, 88), _names("navy|dark blue", "藏青色|深蓝")),
    "purple": ((118, 78, 158), _names("purple|violet", "紫色|紫罗兰")),
    "pink": ((236, 160, 178), _names("pink|rose", "粉色|玫粉")),
}

PATTERNS: dict[str, Names] = {
    "plain": _names("plain|solid", "纯色|素色"),
    "stripes": _names("striped|stripes", "条纹|横条纹"),
    "pinstripes": _names("pinstripe|vertical stripes", "细条纹|竖条纹"),
    "dots": _names("polka dot|dotted", "波点|圆点"),
    "check": _names("checked|gingham|plaid", "格子|格纹"),
    "zigzag": _names("zigzag|chevron", "锯齿纹|人字纹"),
    "diamonds": _names("diamond pattern|argyle", "菱形|菱格"),
    "floral": _names("floral|flowers", "碎花|花卉"),
    "terrazzo": _names("terrazzo|confetti", "水磨石|彩点"),
    "stars": _names("star print|stars", "星星|星星图案"),
    "waves": _names("wave pattern|wavy", "波浪|水波纹"),
    "leopard": _names("leopard|animal print", "豹纹|动物纹"),
    "gradient": _names("ombre|gradient", "渐变|渐变色"),
    "blocks": _names("colour block|two-tone", "拼色|撞色"),
}

# finish = how light treats it (light.py); the third entry is the surface tile, "" for none
MATERIALS: dict[str, tuple[Names, str, str]] = {
    "ceramic": (_names("ceramic|porcelain", "陶瓷|瓷"), "glossy", ""),
    "stoneware": (_names("stoneware|clay", "粗陶|炻器"), "matte", "speckle"),
    "enamel": (_names("enamel", "搪瓷"), "glossy", ""),
    "glass": (_names("glass|crystal", "玻璃|水晶玻璃"), "glass", ""),
    "steel": (_names("stainless steel|steel", "不锈钢|金属"), "metal", "brushed"),
    "metal": (_names("metal|aluminium", "金属|铝合金"), "metal", "brushed"),
    "plastic": (_names("plastic|ABS", "塑料|ABS"), "satin", ""),
    "wood": (_names("wood|wooden|oak", "实木|木质"), "satin", "wood"),
    "cotton": (_names("cotton", "纯棉|棉"), "fabric", "weave"),
    "linen": (_names("linen|flax", "亚麻|棉麻"), "fabric", "weave"),
    "jersey": (_names("jersey|knit", "针织|莫代尔"), "fabric", "knit"),
    "velvet": (_names("velvet|plush", "天鹅绒|绒面"), "velvet", ""),
    "fabric": (_names("fabric|upholstered", "布艺|织物"), "fabric", "knit"),
    "canvas": (_names("canvas", "帆布"), "fabric", "weave"),
    "nylon": (_names("nylon|polyester", "尼龙|涤纶"), "satin", "weave"),
    "mesh": (_names("mesh|knit mesh", "网面|透气网布"), "fabric", "knit"),
    "leather": (_names("leather|faux leather", "皮革|PU皮"), "leather", "leather"),
    "silicone": (_names("silicone|rubber", "硅胶|橡胶"), "matte", ""),
}

_FORMS = (
    "disc",
    "triangle",
    "square",
    "hexagon",
    "star",
    "diamond",
    "cross",
    "drop",
    "moon",
    "bars",
    "chevron",
    "leaf",
)
_BRANDS = (
    ("Oruma", "欧如玛"),
    ("Velto", "维尔托"),
    ("Kibari", "奇芭莉"),
    ("Sandrel", "桑德蕾"),
    ("Lumivo", "露米沃"),
    ("Tavika", "塔薇卡"),
    ("Norrbo", "诺尔博"),
    ("Pellio", "佩利奥"),
    ("Zunari", "祖娜丽"),
    ("Marovel", "玛罗薇"),
    ("Quillon", "奎隆"),
    ("Bexley Hart", "贝斯哈特"),
    ("Fenwari", "芬瓦里"),
    ("Ostriva", "奥斯特瓦"),
    ("Cadenzo", "卡登佐"),
    ("Hoshimi", "星见"),
    ("Yunlan", "云岚"),
    ("Jadeko", "洁德可"),
    ("Riverra", "瑞薇拉"),
    ("Alpenda", "阿尔潘达"),
    ("Tomoki", "友木"),
    ("Solvane", "索梵"),
    ("Mirelle", "米蕾"),
    ("Grandora", "格兰朵拉"),
)


@dataclass(frozen=True)
class Brand:
    """A made-up brand: names, mark form, and whether the mark is drawn in outline."""

    name: str
    zh: str
    form: str
    outline: bool


BRANDS: tuple[Brand, ...] = tuple(
    Brand(name, zh, _FORMS[i % len(_FORMS)], i >= len(_FORMS)) for i, (name, zh) in enumerate(_BRANDS)
)
BRANDS_PER_CATEGORY = 9
STYLES = ("minimal", "playful", "classic", "bold")
STYLE_OF_PATTERN: dict[str, tuple[float, float, float, float]] = {
    "plain": (1.0, -0.4, 0.4, -0.6),
    "gradient": (0.6, 0.2, -0.4, 0.3),
    "blocks": (0.3, 0.4, -0.3, 0.7),
    "stripes": (0.2, 0.1, 0.6, 0.0),
    "pinstripes": (0.3, -0.3, 0.8, -0.2),
    "dots": (-0.3, 0.9, 0.1, 0.0),
    "check": (-0.3, 0.0, 0.9, 0.0),
    "zigzag": (-0.5, 0.5, -0.2, 0.8),
    "diamonds": (-0.2, 0.0, 0.7, 0.4),
    "floral": (-0.7, 0.4, 0.5, 0.2),
    "terrazzo": (-0.2, 0.8, -0.3, 0.4),
    "stars": (-0.6, 1.0, -0.3, 0.5),
    "waves": (0.0, 0.5, 0.0, 0.4),
    "leopard": (-0.9, 0.2, -0.2, 1.0),
}
