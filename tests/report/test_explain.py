"""One photograph step by step, the slider, and the maps of the loss, against what is known of them."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from planted import marked, planted

from wmremoval.losses import ColorAwareLoss
from wmremoval.report.explain import MARKED_FROM, before_after, draw_steps, removal_steps
from wmremoval.report.loss_maps import draw_term_maps, term_maps
from wmremoval.restore.repaint import FoundText


def test_the_steps_of_a_planted_mark_are_its_mask_alpha_and_colour():
    watermarked, _, _ = marked(120, 200)
    remover = planted()
    steps = removal_steps(remover, watermarked)
    alpha = watermarked[..., 2] / 255  # blue is alpha there
    np.testing.assert_allclose(steps.alpha, alpha, atol=1e-6)
    np.testing.assert_array_equal(steps.mask > MARKED_FROM, alpha > 0.03)
    assert steps.colour.min() == 1
    np.testing.assert_array_equal(steps.result.image, remover(watermarked).image)
    steps.result.texts.append(FoundText("Sample", "removed", ((5.0, 5.0), (80.0, 5.0), (80.0, 30.0), (5.0, 30.0))))
    figure = draw_steps(steps)
    FigureCanvasAgg(figure).draw()
    assert [axes.get_title()[:2] for axes in figure.axes] == ["1.", "2.", "3.", "4.", "5.", "6."]
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), watermarked)
    np.testing.assert_array_equal(figure.axes[5].images[0].get_array(), steps.result.image)
    assert figure.axes[1].texts[0].get_text() == "Sample"


def test_a_photograph_too_large_for_one_row_is_refused_in_a_line():
    with pytest.raises(ValueError, match="4000 x 3000 pixels are too many"):
        removal_steps(planted(), np.zeros((3000, 4000, 3), np.uint8))


def test_the_slider_holds_both_photographs_and_needs_no_script():
    before, after = (np.full((300, 1200, 3), value, np.uint8) for value in (200, 50))
    html = before_after(before, after).data
    pictures = {
        alt: np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))
        for alt, content in re.findall(r'alt="(\w+)" src="data:image/jpeg;base64,([^"]+)"', html)
    }
    assert {alt: (view.shape, int(view.mean())) for alt, view in pictures.items()} == {
        "before": ((150, 600, 3), 200),
        "after": ((150, 600, 3), 50),
    }
    assert (
        "<script" not in html
        and "http" not in html
        and not re.search(r"\son\w+=", html)
        and "resize:horizontal" in html
    )


def test_the_mean_of_each_map_is_its_term():
    generator = torch.Generator().manual_seed(1)
    pred, target = torch.rand(2, 1, 3, 64, 64, generator=generator)
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 10:30, 20:50] = 1
    criterion = ColorAwareLoss(perceptual_weights="random")
    _, terms = criterion(pred, target, mask)
    for name, each in term_maps(criterion, pred, target, mask).items():
        area = mask.mean() if name in ("masked_l1", "laplacian") else 1.0
        inner = each[5:-5, 5:-5] if name == "ssim" else each  # the term leaves out windows beyond the border
        tolerance = 0.05 if name in ("ssim", "perceptual") else 1e-5
        assert float(inner.mean() / area * criterion.weights[name]) == pytest.approx(
            terms[name].item(), rel=tolerance
        ), name
    figure = draw_term_maps(criterion, {"watermarked": pred[0], "clean": target[0], "mask": mask[0]})
    titles = [axes.get_title() for axes in figure.axes if "adds" in axes.get_title()]
    assert [float(re.search(r"adds ([\d.]+)", title)[1]) for title in titles] == pytest.approx(
        [terms[name].item() for name in terms], abs=6e-4
    )
