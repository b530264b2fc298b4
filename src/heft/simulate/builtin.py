"""A shop that the project writes itself: 2,016 products, 300 queries, graded by construction.

The words are in shop.yaml. Everything is drawn from one fixed seed, so the
shop is the same in every simulation; what shoppers do in it is not.
"""

from dataclasses import dataclass
from importlib import resources

import numpy as np
import pandas as pd
import yaml
from pydantic import Field

from heft.settings import Settings
from heft.simulate.judgements import MAX_GRADE, Judgements, checked

__all__ = ["builtin_judgements"]

_SEED = 20_260_105
_PER_TYPE = 24
_OWN, _RELATED, _STRANGERS = 14, 4, 3
_SYNONYM_IN_TITLE, _SYNONYM_IN_QUERY, _TYPO = 0.2, 0.25, 0.12
_PRICE_SPREAD, _BRAND_SPREAD = 0.3, 0.2
# Raters disagree: this share of grades is one off.
_DISAGREEMENT = 0.04
_TITLES = (
    "{brand} {series} {type}, {features}, {colour}, {size}",
    "{features} {type} by {brand} - {colour}, {size}",
    "{brand} {type} {series} {size} {colour} {features}",
    "{type} {brand} {series} ({colour}, {size}) {features}",
)
_SERIES = ("Nova", "Pro", "Classic", "Terra", "Flex", "Prime", "Vista", "Core", "Luna", "Edge")


class _Type(Settings):
    """One product type of shop.yaml."""

    name: str
    also: tuple[str, ...]
    price: float
    features: tuple[str, ...]
    sizes: tuple[str, ...]
    near: tuple[str, ...] = ()
    of: str = ""


class _Department(Settings):
    brands: tuple[str, ...]
    colours: tuple[str, ...]
    types: tuple[_Type, ...] = Field(min_length=1)


@dataclass(frozen=True)
class _Product:
    item_id: str
    department: str
    type: str
    words: frozenset[str]  # brand, features, colour and size: what a query may ask for
    brand: str
    title: str
    price: float


@dataclass(frozen=True)
class _Query:
    text: str
    type: str
    wanted: tuple[str, ...]


def builtin_judgements() -> Judgements:
    """The built-in shop: some 6,800 graded pairs; prices log-normal by product type.

    Grade 3: the product type asked for, with everything asked for. 2 and 1:
    the type, with one or more wishes unmet. 1: a type that would do instead.
    0: everything else, and an accessory of the device asked for (or the
    device, where the accessory was asked for) however alike their titles are.
    """
    rng = np.random.default_rng(_SEED)
    departments = _read_shop()
    shelves = [(name, d, kind) for name, d in departments.items() for kind in d.types]
    products = [
        _product(rng, *shelves[number // _PER_TYPE], number)
        for number in range(_PER_TYPE * len(shelves))
    ]
    kinds = {kind.name: kind for _, _, kind in shelves}
    by_type = {name: [p for p in products if p.type == name] for name in kinds}
    rows = [
        (query.text, product.item_id, _grade(rng, query, product, kinds))
        for query in _queries(rng, departments)
        for product in _candidates(rng, query, by_type, kinds)
    ]
    pairs = pd.DataFrame(rows, columns=["query", "item_id", "grade"])
    catalogue = pd.DataFrame(
        [(p.item_id, p.title, p.department, p.brand, p.price) for p in products],
        columns=["item_id", "title", "category", "brand", "price"],
    )
    return checked(pairs, catalogue, "the built-in shop")


def _read_shop() -> dict[str, _Department]:
    text = resources.files("heft.simulate").joinpath("shop.yaml").read_text(encoding="utf-8")
    return {name: _Department.model_validate(entry) for name, entry in yaml.safe_load(text).items()}


def _pick(rng: np.random.Generator, words: tuple[str, ...]) -> str:
    return words[int(rng.integers(len(words)))]


def _product(
    rng: np.random.Generator, department: str, shelf: _Department, kind: _Type, number: int
) -> _Product:
    rank = number % len(shelf.brands)
    brand, colour, size = shelf.brands[rank], _pick(rng, shelf.colours), _pick(rng, kind.sizes)
    count = int(rng.integers(1, 3))
    features = [str(word) for word in rng.choice(kind.features, size=count, replace=False)]
    spoken = _pick(rng, kind.also) if rng.random() < _SYNONYM_IN_TITLE else kind.name
    series = f"{_pick(rng, _SERIES)} {rng.integers(10, 99) * 10}"
    title = _pick(rng, _TITLES).format(
        brand=brand, series=series, type=spoken, features=" ".join(features), colour=colour,
        size=size,
    )  # fmt: skip
    # Brands of a department stand in order of price.
    noise = _PRICE_SPREAD * rng.standard_normal() + _BRAND_SPREAD * (rank - 2.5) / 2.5
    price = max(round(kind.price * float(np.exp(noise))), 1) - 0.01
    words = frozenset([brand, colour, size, *features])
    return _Product(f"B{number:05d}", department, kind.name, words, brand, title, price)


def _queries(rng: np.random.Generator, departments: dict[str, _Department]) -> list[_Query]:
    """Three queries for each type, and a fourth for four types in seven."""
    queries = []
    shelves = [(shelf, kind) for shelf in departments.values() for kind in shelf.types]
    for number, (shelf, kind) in enumerate(shelves):
        choices = (shelf.brands, shelf.colours, kind.sizes)
        feature, another = (str(f) for f in rng.choice(kind.features, size=2, replace=False))
        wishes: list[tuple[str, ...]] = [(), (feature,)]
        wishes.append((_pick(rng, choices[int(rng.integers(3))]),))
        if number % 7 < 4:
            wishes.append((_pick(rng, shelf.colours), another))
        queries += [_query(rng, kind, wanted) for wanted in wishes]
    return queries


def _query(rng: np.random.Generator, kind: _Type, wanted: tuple[str, ...]) -> _Query:
    spoken = _pick(rng, kind.also) if rng.random() < _SYNONYM_IN_QUERY else kind.name
    before = [word for word in wanted if word not in kind.sizes and not word.startswith("with")]
    after = [word for word in wanted if word not in before]
    text = " ".join([*before, spoken, *after]).lower()
    return _Query(_typo(rng, text) if rng.random() < _TYPO else text, kind.name, wanted)


def _typo(rng: np.random.Generator, text: str) -> str:
    """`text` with two neighbouring letters swapped, or one dropped or doubled."""
    inside = [i for i in range(1, len(text) - 2) if text[i].isalpha() and text[i + 1].isalpha()]
    at = inside[int(rng.integers(len(inside)))]
    middles = (text[at + 1] + text[at], text[at], text[at] + text[at : at + 2])
    return text[:at] + middles[int(rng.integers(len(middles)))] + text[at + 2 :]


def _related(kind: _Type, kinds: dict[str, _Type]) -> list[str]:
    """Types a search engine confuses with `kind`."""
    accessories = [other.name for other in kinds.values() if other.of == kind.name]
    return [*kind.near, *accessories, *([kind.of] if kind.of else [])]


def _candidates(
    rng: np.random.Generator,
    query: _Query,
    products: dict[str, list[_Product]],
    kinds: dict[str, _Type],
) -> list[_Product]:
    """The products that were judged for a query; `products` are by type."""

    def some(pool: list[_Product], count: int) -> list[_Product]:
        chosen = rng.choice(len(pool), size=min(count, len(pool)), replace=False)
        return [pool[int(index)] for index in chosen]

    related = _related(kinds[query.type], kinds)
    chosen = some(products[query.type], _OWN)
    for name in related:
        chosen += some(products[name], _RELATED)
    home = chosen[0].department
    neighbours, alike, wanted = [], [], set(query.wanted)
    for name, shelf in products.items():
        if name == query.type or name in related:
            continue
        if shelf[0].department == home:
            neighbours += shelf
        else:
            alike += [p for p in shelf if not wanted or not wanted.isdisjoint(p.words)]
    return chosen + some(neighbours, _STRANGERS) + some(alike, _STRANGERS)


def _grade(
    rng: np.random.Generator, query: _Query, product: _Product, kinds: dict[str, _Type]
) -> int:
    if product.type == query.type:
        unmet = len(set(query.wanted) - product.words)
        grade = max(MAX_GRADE - unmet, 1)
    else:
        grade = 1 if product.type in kinds[query.type].near else 0
    if rng.random() < _DISAGREEMENT:
        grade += 1 if rng.random() < 0.5 else -1
    return min(max(grade, 0), MAX_GRADE)
