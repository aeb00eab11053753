"""The fitted decision: its probabilities, its figures, what it refuses and keeps, and what it does not fit."""

import hashlib
import json

import numpy as np
import pytest
import torch
from planted import Planted, ensemble_of, marked, planted, psnr_inside

from wmremoval.restore.confirm import side_steps
from wmremoval.restore.decision import Decision, judge, read_decision
from wmremoval.restore.figures import CREDIT, FIGURES, line_figures
from wmremoval.restore.regions import line_mask, line_region, text_view
from wmremoval.restore.remover import Remover
from wmremoval.restore.text import Line
from wmremoval.training.checkpoints import SHIPPED_WEIGHTS

CPU = torch.device("cpu")
N = len(FIGURES)


def quad(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.float32([(left, top), (right, top), (right, bottom), (left, bottom)])


WORD = Line(quad(15, 35, 140, 68), 0.9, "Sample", 0.95)


def decision_of(
    bias: float = 0.0, mark_from: float = 0.5, scene_below: float = 0.5, sure_from: float = 1.0, **weights: float
) -> Decision:
    """A decision that looks at the figures named."""
    weight = [weights.get(name, 0.0) for name in FIGURES]
    content = {"figures": list(FIGURES), "mean": [0.0] * N, "scale": [1.0] * N, "weight": weight, "bias": bias}
    return Decision(content | {"mark_from": mark_from, "sure_from": sure_from, "scene_below": scene_below})


class Finder:
    """Knows the lines of the photograph and finds none again."""

    def __init__(self, *lines: Line):
        self.lines = list(lines)

    def find(self, photo):
        return self.lines

    def read(self, photo, lines):
        return lines

    def find_near(self, photo, line):
        return []


def test_a_fit_gives_the_probabilities_of_scikit_learn():
    pytest.importorskip("sklearn")
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    from wmremoval.bench.decision import ANY_POINTS, Examples, fit_logistic

    rng = np.random.default_rng(0)
    figures = (rng.standard_normal((400, N)) * rng.uniform(0.5, 9, N) + 3).astype(np.float32)
    is_mark = figures[:, 0] - figures[:, 1] > 4 * rng.standard_normal(400)
    weight = rng.uniform(0.2, 1.0, 400)
    content = fit_logistic(Examples(figures, is_mark, np.arange(400), weight))
    scaled = StandardScaler().fit_transform(figures)
    reference = LogisticRegression(max_iter=5000).fit(scaled, is_mark, weight).predict_proba(scaled)[:, 1]
    ours = Decision(content | ANY_POINTS).probability(figures)
    assert reference.std() > 0.1
    np.testing.assert_allclose(ours, reference, atol=1e-3)


def test_the_points_of_decision_keep_the_shares_they_name():
    pytest.importorskip("sklearn")
    from wmremoval.bench.decision import FALSE_SHARE, LOST_SHARE, SURE_SHARE, Examples, cross_validated, fit

    rng = np.random.default_rng(1)
    is_mark = rng.random(2000) < 0.5
    figures = rng.standard_normal((2000, N)).astype(np.float32) + 0.8 * is_mark[:, None] * (np.arange(N) < 3)
    examples = Examples(figures.astype(np.float32), is_mark, np.arange(2000) // 4, np.ones(2000))
    content, measured = fit(examples)
    probability = cross_validated(examples)
    assert (probability[~is_mark] > content["mark_from"]).mean() == pytest.approx(FALSE_SHARE, abs=0.002)
    assert (probability[~is_mark] > content["sure_from"]).mean() == pytest.approx(SURE_SHARE, abs=0.002)
    assert (probability[is_mark] < content["scene_below"]).mean() == pytest.approx(LOST_SHARE, abs=0.002)
    assert measured["marks"] == is_mark.sum() and 0.8 < measured["auc"] < 0.95


def test_a_probability_by_hand():
    content = {"figures": list(FIGURES), "mean": [1.0] * N, "scale": [2.0] * N, "weight": [0.5] * N, "bias": -0.2}
    decision = Decision(content | {"mark_from": 0.5, "sure_from": 1.0, "scene_below": 0.5})
    figures = np.ones((2, N))
    figures[1, 0], figures[1, 2] = 7.0, -1.0  # 0.5 (7 - 1) / 2 + 0.5 (-1 - 1) / 2 = 1
    np.testing.assert_allclose(decision.probability(figures), 1 / (1 + np.exp([0.2, -0.8])))


@pytest.mark.parametrize("more", [-2.0, 0.0, 2.0])
def test_sensitivity_is_added_to_the_log_odds(more):
    probability = decision_of(bias=0.3).probability(np.zeros(N), more)
    assert np.log(probability / (1 - probability)) == pytest.approx(0.3 + more)


def test_a_line_of_the_scene_is_left_alone_though_the_network_sees_a_mark():
    watermarked = marked(700, 300, 1.0, origin=(40, 60))[0]
    watermarked[400:] = marked(700, 300, 1.0, origin=(40, 640))[0][400:]
    remover = planted()
    whole = remover(watermarked)
    remover.text = Finder(Line(quad(20, 580, 280, 680), 0.9, "SHOP", 0.9))
    remover.decision = decision_of(bias=-5.0)
    result = remover(watermarked)
    assert len(whole.regions) == 2 and len(result.regions) == 1
    np.testing.assert_array_equal(result.image[560:], watermarked[560:])
    np.testing.assert_array_equal(result.image[:400], whole.image[:400])
    assert [text.fate for text in result.texts] == ["left: part of the scene"]


class Faint(Planted):
    """Sees marks, but too faintly for the search: 0.4 everywhere."""

    def parts(self, watermarked):
        parts = super().parts(watermarked)
        return parts._replace(mask_logits=parts.mask_logits.clamp(max=-0.4))


@pytest.mark.parametrize("bias, fate", [(5.0, "removed"), (0.0, "left: part of the scene")])
def test_a_line_that_the_decision_takes_for_a_mark_is_removed_though_the_search_misses_it(bias, fate):
    watermarked, _, mask = marked(96, 160)
    remover = Remover(Faint(), CPU)
    np.testing.assert_array_equal(remover(watermarked).image, watermarked)
    remover.text, remover.decision = Finder(WORD), decision_of(bias, mark_from=0.7, scene_below=0.1)
    result = remover(watermarked)
    assert [text.fate for text in result.texts] == [fate]
    changed = (result.image != watermarked).any(axis=-1)
    assert changed[mask > 0].mean() > 0.9 if fate == "removed" else not changed.any()


def test_between_the_two_points_the_network_alone_decides():
    watermarked = marked(96, 160)[0]
    remover = planted()
    alone = remover(watermarked)
    remover.text, remover.decision = Finder(WORD), decision_of(0.0, mark_from=0.7, scene_below=0.3)
    result = remover(watermarked)
    np.testing.assert_array_equal(result.image, alone.image)
    assert [text.fate for text in result.texts] == ["removed"]


def test_figures_measure_what_they_say():
    watermarked = marked(128, 200, 1.0, alpha=0.6)[0]
    ensemble = ensemble_of(planted().net, watermarked)
    alpha = watermarked[..., 2] / 255.0
    rows, columns = np.nonzero(alpha > 0.03)
    box = quad(columns.min(), rows.min(), columns.max(), rows.max())
    line = Line(box, 0.9, "www.sample.com", 0.8)
    region = line_region(line, 1, [1], (128, 200))
    other = line_region(Line(box + 1, 0.9, "x"), 1, [1], (128, 200))
    wide = line_region(Line(quad(0, 0, 199, 100), 0.9, "x"), 1, [1], (128, 200))
    values = dict(zip(FIGURES, line_figures(ensemble, region, [region, other, wide]), strict=True))
    top, left, bottom, right = region.box
    inside = line_mask(line, np.s_[0:128, 0:200], 1)
    assert 1 / (1 + np.exp(-values["confident"])) == pytest.approx((alpha[inside] > 0.03).mean(), abs=0.02)
    assert values["touched"] == pytest.approx(np.log2((alpha > 0.03).sum()), abs=0.01)
    assert values["height"] == pytest.approx(np.log2(rows.max() - rows.min()), abs=0.01)
    assert values["copies"] == pytest.approx(np.log2(3)), "itself and the other one of its size"
    nearest = min(top, left, 128 - bottom, 200 - right)
    assert values["edge_distance"] == pytest.approx(nearest / 128, abs=0.01)
    assert values["credit"] == 1.0 and values["read"] == pytest.approx(0.8)
    assert values["confident_thrice"] > 2.0, "all predictions of the planted network agree"


def test_a_line_is_as_far_from_the_border_as_the_nearest_of_its_four_sides():
    ensemble = ensemble_of(planted().net, marked(128, 200)[1])
    nearest = {
        (60, 50, 90, 60): 48,  # left of the middle; each is widened by 2, a fifth of its height
        (60, 10, 150, 20): 8,
        (60, 110, 150, 120): 6,
        (20, 50, 150, 60): 18,
        (60, 50, 186, 60): 12,
    }
    for sides, pixels in nearest.items():
        region = line_region(Line(quad(*sides), 0.9, "x"), 1, [1], (128, 200))
        values = dict(zip(FIGURES, line_figures(ensemble, region, [region]), strict=True))
        assert values["edge_distance"] == pytest.approx(pixels / 128, abs=1.5 / 128), sides


def test_the_step_of_a_line_is_that_along_the_outline_of_its_mark():
    """A plain photograph under a plain rectangle, which is a part of the line: the step is the same all along."""
    colour = np.float32([0.5, 0.25, 0.0])
    photo = np.tile(colour, (128, 200, 1))
    photo[50:70, 60:120] += 0.6 * (1 - colour)
    ensemble = ensemble_of(planted().net, np.rint(255 * photo).astype(np.uint8))
    region = line_region(Line(quad(40, 40, 160, 80), 0.9, "x"), 1, [1], (128, 200))
    values = dict(zip(FIGURES, line_figures(ensemble, region, [region]), strict=True))
    assert values["step"] == pytest.approx(0.6 * np.linalg.norm(1 - colour), abs=0.01)


def test_the_step_is_the_distance_between_the_sides_of_the_outline():
    """A half lighter by 0.3."""
    lighter = np.zeros((40, 60), np.float32)
    lighter[:, 30:] = 1
    photo = np.repeat(0.2 + 0.3 * lighter[..., None], 3, axis=-1).astype(np.float32)
    steps = side_steps(photo, lighter > 0, np.s_[:, :])
    # Of seven pixels across, 2 to 5 are inside in four columns; one and six are too few of a side.
    assert len(steps) == 160
    np.testing.assert_allclose(steps, 0.3 * np.sqrt(3), rtol=1e-4)


@pytest.mark.parametrize(
    "words, is_credit",
    [("alibaba.com.cn", True), ("(c) Jane Doe", True), ("© 2009", True), ("PHOTOMARKS", True), ("STOP", False),
     ("220", False), ("company", False), ("Main St. Cafe", False)],
)  # fmt: skip
def test_words_of_a_credit(words, is_credit):
    assert bool(CREDIT.search(words)) == is_credit


def test_a_line_that_the_network_does_not_see_at_all_has_no_chance():
    clean = marked(96, 160)[1]
    (line,) = judge(ensemble_of(planted().net, clean), [WORD], None)
    assert line.confidence == 0.0


def test_the_figures_are_those_of_the_view_in_which_the_height_is_nearest():
    assert [text_view(height, [1, 2, 4, 8]) for height in (12, 64, 100, 200, 900)] == [1, 1, 2, 4, 8]


@pytest.mark.parametrize("content", [{"figures": ["mask"]}, {"figures": list(FIGURES), "mark_from": 0.5}])
def test_a_decision_for_another_version_is_refused(tmp_path, content):
    path = tmp_path / "decision.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="fit it again"):
        read_decision(path)


def test_the_package_decides_with_a_fit_on_its_own_weights():
    assert read_decision().weights_sha256 == hashlib.sha256(SHIPPED_WEIGHTS.read_bytes()).hexdigest()


def test_the_drawn_reliability_curve_is_the_measured_one():
    from wmremoval.bench.decision import draw_reliability, scores

    pytest.importorskip("sklearn")
    probability = np.linspace(0.0, 1.0, 1000)
    is_mark = np.random.default_rng(2).random(1000) < probability
    measured = scores(is_mark, probability)
    curve, bars = draw_reliability(measured).axes
    x, y = curve.lines[1].get_data()
    np.testing.assert_allclose(x, np.arange(0.05, 1.0, 0.1), atol=0.01)
    np.testing.assert_allclose(y, x, atol=0.12)
    assert sum(bar.get_height() for bar in bars.patches) == 1000


class Blind(Planted):
    """Sees a few pixels of a mark, too few for its letters."""

    def parts(self, watermarked):
        parts = super().parts(watermarked)
        logits = torch.full_like(parts.mask_logits, -12.0)
        logits[..., 40:44, 20:24] = 0.0
        return parts._replace(mask_logits=logits, image=watermarked)


@pytest.mark.parametrize("sure_from, fate", [(0.9, "removed"), (0.999, "left: part of the scene")])
def test_a_sure_line_is_removed_though_the_network_does_not_see_its_letters(sure_from, fate):
    watermarked, clean, mask = marked(96, 160, 1.0, alpha=1.0)
    remover = Remover(Blind(), CPU)
    remover.text, remover.decision = Finder(WORD), decision_of(bias=4.0, sure_from=sure_from)
    result = remover(watermarked)
    assert [text.fate for text in result.texts] == [fate]
    if fate == "removed":
        assert psnr_inside(result.image, clean, mask) > psnr_inside(watermarked, clean, mask) + 10
    else:
        np.testing.assert_array_equal(result.image, watermarked)
    remover.without = frozenset({"strokes"})
    result = remover(watermarked)
    np.testing.assert_array_equal(result.image, watermarked)
    assert result.texts[0].fate == ("still readable" if fate == "removed" else fate), "untouched is not removed"
