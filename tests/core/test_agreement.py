"""How far annotators agree, against figures reckoned by hand and scikit-learn's kappa."""

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from osal_detectron2.core.agreement import agreement, compare, difference, kappa
from osal_detectron2.core.boxes import nuclei_of
from osal_detectron2.core.labels import TileLabels


def tile(*nuclei):
    """Nuclei ("class", x) of 10 x 10 pixels at y = 0, or ("class", x, y, w, h)."""
    boxes = [n[1:] if len(n) == 5 else (n[1], 0, 10, 10) for n in nuclei]
    return TileLabels("labelled" if nuclei else "reviewed_empty", boxes, [n[0] for n in nuclei])


ANNA = tile(("tumor", 0), ("tumor", 20), ("lymphocyte", 40), ("lymphocyte", 60))
BEN = tile(("tumor", 1), ("lymphocyte", 20), ("lymphocyte", 40), ("tumor", 80))


def test_figures_reckoned_by_hand():
    pair = compare("anna", "ben", [(ANNA, BEN)])
    assert pair.boxes == (4, 4) and pair.matched.total() == 3
    assert pair.f1_place == 2 * 3 / 8 and pair.f1 == 2 * 2 / 8
    # Of three common nuclei two are called alike; by chance (2 * 1 + 1 * 2) / 9: kappa (2/3 - 4/9) / (1 - 4/9).
    assert pair.kappa == pytest.approx(0.4)
    assert {name: (c.first, c.second, c.matched, c.f1) for name, c in pair.classes.items()} == {
        "lymphocyte": (2, 2, 1, 0.5),
        "tumor": (2, 2, 1, 0.5),
    }
    assert pair.calls == {
        ("tumor", "tumor"): 1,
        ("tumor", "lymphocyte"): 1,
        ("lymphocyte", "lymphocyte"): 1,
        ("lymphocyte", "nothing"): 1,
        ("nothing", "tumor"): 1,
    }


def test_half_the_union_is_one_nucleus_and_less_is_none():
    assert compare("a", "b", [(tile(("t", 0, 0, 10, 10)), tile(("t", 0, 0, 10, 20)))]).f1 == 1
    assert compare("a", "b", [(tile(("t", 0, 0, 10, 10)), tile(("t", 0, 0, 10, 20.1)))]).f1 == 0


def test_kappa_does_not_let_the_class_choose_the_nucleus():
    """Ben's two boxes on anna's tumour: the nearer one is of another class, which F1 of a class need not mind."""
    anna = tile(("tumor", 0), ("debris", 50))
    ben = tile(("debris", 0), ("tumor", 2), ("debris", 50))
    pair = compare("anna", "ben", [(anna, ben)])
    assert pair.classes["tumor"].f1 == 1
    assert pair.matched == {("tumor", "debris"): 1, ("debris", "debris"): 1}


def test_three_annotators_are_pairs_sorted_by_how_little_they_agree():
    empty = tile()
    found = agreement({"t1": {"anna": ANNA, "ben": BEN, "carl": ANNA}, "t2": {"anna": empty, "carl": empty}})
    assert found.annotators == {"anna": 2, "ben": 1, "carl": 2}
    assert [(p.first, p.second, p.tiles) for p in found.pairs] == [
        ("anna", "ben", 1),
        ("ben", "carl", 1),
        ("anna", "carl", 2),
    ]
    assert found.all.f1 == pytest.approx((2 * 2 + 2 * 2 + 2 * 4) / (3 * 8))
    assert found.all.kappa == pytest.approx((0.4 + 0.4 + 1) / 3)
    assert found.mixed_up == {("lymphocyte", "tumor"): 2}
    assert [(d.tile, d.nuclei) for d in found.tiles] == [("t1", 6)], "two pairs differ on three nuclei each"
    assert "1 tumor or lymphocyte" in found.tiles[0].words[0]


def test_a_rejected_tile_differs_in_its_state_and_in_no_box():
    found = agreement({"t": {"anna": ANNA, "ben": TileLabels("rejected")}, "u": {"anna": ANNA, "ben": ANNA}})
    (pair,) = found.pairs
    assert pair.states == {("labelled", "rejected"): 1} and pair.f1 == 1 and pair.boxes == (4, 4)
    assert found.tiles[0].words == ("anna says labelled, ben says rejected",)


def test_undefined_is_null_and_one_answer_is_no_agreement():
    one_class = tile(("tumor", 0))
    found = agreement({"t": {"anna": one_class, "ben": one_class}})
    text = json.dumps(found.as_json(), allow_nan=False)
    assert json.loads(text)["pairs"][0]["kappa"] is None and json.loads(text)["all"]["f1"] == 1
    assert agreement({"t": {"anna": ANNA}, "u": {"ben": BEN}}) is None


def test_a_nucleus_has_at_most_one_box_of_each_of_three():
    boxes = [[(0, 0, 10, 10), (3, 0, 10, 10)], [(0.9, 0, 10, 10)], [(2.1, 0, 10, 10)]]
    classes = [["t"] * len(b) for b in boxes]
    assert nuclei_of(boxes, classes, class_first=True) == [{0: 0, 1: 0}, {0: 1, 2: 0}]


NUCLEUS = st.tuples(
    st.sampled_from("abc"), st.integers(0, 12), st.integers(0, 12), st.integers(4, 9), st.integers(4, 9)
)
ANSWER = st.one_of(
    st.just(TileLabels("rejected")), st.builds(lambda n: tile(*n), st.lists(NUCLEUS, max_size=8))
)


@given(st.lists(st.tuples(ANSWER, ANSWER), min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_neither_comes_first_and_all_figures_are_in_bounds(tiles):
    one, other = compare("a", "b", tiles), compare("b", "a", [(b, a) for a, b in tiles])
    assert (one.f1, one.f1_place, one.kappa) == (other.f1, other.f1_place, other.kappa)
    assert one.calls == Counter({(b, a): n for (a, b), n in other.calls.items()})
    assert {n: (c.f1, c.kappa) for n, c in one.classes.items()} == {
        n: (c.f1, c.kappa) for n, c in other.classes.items()
    }
    figures = [one.f1, one.f1_place, *(c.f1 for c in one.classes.values())]
    assert all(figure is None or 0 <= figure <= 1 for figure in figures)
    assert one.kappa is None or -1 <= one.kappa <= 1
    for first, second in tiles:
        assert difference(first, second).nuclei == difference(second, first).nuclei


@given(st.lists(ANSWER, min_size=1, max_size=4))
@settings(max_examples=50, deadline=None)
def test_who_says_the_same_agrees_in_everything(answers):
    pair = compare("a", "b", [(answer, answer) for answer in answers])
    assert {pair.f1, pair.f1_place, pair.kappa} <= {1, None} and not pair.states
    assert all(c.f1 == 1 and c.kappa in (1, None) for c in pair.classes.values())
    assert not any(difference(answer, answer) for answer in answers)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=1, max_size=30))
@settings(max_examples=100, deadline=None)
@pytest.mark.filterwarnings("ignore")
def test_kappa_is_that_of_scikit_learn(calls):
    expected = cohen_kappa_score(*zip(*calls), labels=["a", "b", "c"])
    found = kappa(Counter(calls))
    assert found == pytest.approx(expected) if expected == expected else found is None
