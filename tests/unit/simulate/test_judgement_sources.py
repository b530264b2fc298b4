"""Sources of judgements: the built-in shop by its rules, real data against a second reading."""

import csv
import json
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from heft.simulate.builtin import builtin_judgements
from heft.simulate.chorus import read_chorus
from heft.simulate.home_depot import read_home_depot
from heft.simulate.judgements import Judgements
from heft.simulate.pairs import read_pairs
from tests.unit.simulate.readback import run


@pytest.fixture(scope="module")
def shop() -> Judgements:
    return builtin_judgements()


def judged(shop: Judgements, query: str) -> pd.DataFrame:
    pairs = shop.pairs[shop.pairs["query"] == query]
    return pairs.merge(shop.catalogue, on="item_id")


def test_size_of_the_built_in_shop(shop: Judgements) -> None:
    assert len(shop.catalogue) == 2_016
    assert shop.pairs["query"].nunique() == 300
    assert shop.catalogue["category"].nunique() >= 12
    assert shop.catalogue["title"].nunique() > 1_990
    assert shop.pairs["query"].value_counts().min() >= 15
    assert (shop.pairs["grade"].value_counts(normalize=True) > 0.1).all()
    assert not shop.catalogue.isna().any().any()
    assert shop.catalogue["price"].between(1, 5_000).all()


def test_an_accessory_is_not_the_device(shop: Judgements) -> None:
    rows = judged(shop, "digital camera")
    accessory = rows["title"].str.contains("camera bag|camera battery|tripod|memory card")
    device = rows["title"].str.contains("digital camera|photo camera|compact camera")
    assert accessory.sum() >= 8 and device.sum() >= 8
    assert rows.loc[accessory, "grade"].mean() < 0.2
    assert rows.loc[device, "grade"].mean() > 2.7


def test_an_unmet_wish_costs_a_grade(shop: Judgements) -> None:
    rows = judged(shop, "ratchet pruning shears")
    own = rows["title"].str.contains("pruning shears|secateurs|garden scissors")
    met = rows["title"].str.contains("ratchet")
    assert rows.loc[own & met, "grade"].median() == 3
    assert rows.loc[own & ~met, "grade"].median() == 2
    assert rows.loc[~own, "grade"].median() == 0


def test_words_say_something_of_relevance_but_not_all(shop: Judgements) -> None:
    rows = shop.pairs.merge(shop.catalogue, on="item_id")
    overlap = [
        len(set(q.split()) & set(t.lower().replace(",", "").split())) / len(q.split())
        for q, t in zip(rows["query"], rows["title"], strict=True)
    ]
    assert 0.7 < roc_auc_score(rows["grade"] >= 2, overlap) < 0.95


def test_departments_have_prices_of_their_own(shop: Judgements) -> None:
    laptops = shop.catalogue[shop.catalogue["title"].str.contains("business laptop|gaming laptop")]
    slippers = shop.catalogue[shop.catalogue["title"].str.contains("slippers")]
    assert laptops["price"].median() > 10 * slippers["price"].median()


def test_chorus_against_its_files(shop_data: Path) -> None:
    shop = read_chorus(shop_data / "chorus")
    with (shop_data / "chorus" / "Broad_Query_Set_individual_ratings.csv").open() as file:
        rated = {(r["query"], r["docid"]): int(r["final_rating"]) for r in csv.DictReader(file)}
    read = shop.pairs.set_index(["query", "item_id"])["grade"].to_dict()
    assert read == rated and len(read) == 3_188
    products = {}
    for archive in sorted((shop_data / "chorus").glob("*.json.zip")):
        with zipfile.ZipFile(archive) as opened:
            rows = json.loads(opened.read(opened.namelist()[0]))
        products |= {str(row["id"]): row for row in rows}
    assert len(shop.catalogue) == len(products) == 19_406
    for row in shop.catalogue.itertuples():
        source = products[row.item_id]
        assert (row.title, row.brand) == (source["title"].strip(), source["supplier"])
        assert row.price == pytest.approx(source["price"] / 100)
    categories = shop.catalogue.set_index("item_id")["category"]
    assert categories["3920564"] == "toner cartridge"
    assert 20 < categories.nunique() < 200
    assert categories.value_counts().min() >= 20


def test_home_depot_against_its_file(shop_data: Path) -> None:
    shop = read_home_depot(shop_data / "home_depot")
    with zipfile.ZipFile(shop_data / "home_depot" / "train.csv.zip") as archive:
        text = archive.read("train.csv").decode("latin-1").splitlines()
    graded = {}
    for row in csv.DictReader(text):
        cuts = sum(float(row["relevance"]) >= cut for cut in (1.5, 2.17, 2.84))
        graded[(row["search_term"].strip(), row["product_uid"])] = cuts
    read = shop.pairs.set_index(["query", "item_id"])["grade"].to_dict()
    assert read == graded and len(read) > 74_000
    assert len(shop.catalogue) == 54_667
    assert shop.catalogue["price"].median() == pytest.approx(40, rel=0.03)
    assert shop.catalogue["price"].min() > 0
    brands = shop.catalogue.set_index("item_id")["brand"]
    assert brands["100001"] == "Simpson"


def test_real_queries_make_a_log(shop_data: Path, tmp_path: Path) -> None:
    log = run(tmp_path / "log", source="chorus", data=str(shop_data / "chorus"), sessions=500)
    pages = log.impressions.groupby("request_id").size()
    assert pages.between(2, 10).all() and pages.max() == 10
    assert log.counts["train_queries"] + log.counts["tune_queries"] == 94
    assert (
        log.impressions["item_id"].isin(pd.read_parquet(log.folder / "catalogue")["item_id"]).all()
    )


def test_anybodys_pairs(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text(
        "query,title,grade,price\nnull,Null modem,3,9.5\nnull,Café au lait,0,\n"
        "NA,Null modem,1,9.5\n,lost,2,1\n null ,Null modem,0,9.5\nempty title,,2,1\n",
        encoding="utf-8",
    )
    shop = read_pairs(tmp_path)
    titled = shop.pairs.merge(shop.catalogue, on="item_id")
    rows = {(r.query, r.title, r.grade) for r in titled.itertuples()}
    assert rows == {("null", "Null modem", 3), ("null", "Café au lait", 0), ("NA", "Null modem", 1)}
    prices = shop.catalogue.set_index("title")["price"]
    assert prices["Null modem"] == 9.5 and pd.isna(prices["Café au lait"])
