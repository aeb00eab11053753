"""The pictures of results show the numbers they were given."""

import math
import re

import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from wmremoval.data.dataset import get_augmentations
from wmremoval.metrics import local_psnr_map, local_ssim_map
from wmremoval.report import plots
from wmremoval.report.ranking import ranked


@pytest.fixture(scope="module")
def batch() -> dict[str, torch.Tensor]:
    """Three 64 x 48 photographs with a grey block as watermark, of which a third is still there."""
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand(3, 3, 8, 6, generator=generator).repeat_interleave(8, 2).repeat_interleave(8, 3)
    mask = torch.zeros(3, 1, 64, 48)
    mask[..., 20:40, 10:30] = 1
    watermarked = torch.lerp(clean, torch.ones_like(clean), 0.6 * mask)
    restored = torch.lerp(clean, watermarked, 0.3) + 0.01 * torch.rand(clean.shape, generator=generator)
    reference = torch.lerp(clean, torch.zeros_like(clean), 0.5 * mask.flip(-1))
    return {
        "clean": clean,
        "mask": mask,
        "watermarked": watermarked,
        "restored": restored.clamp(0, 1),
        "reference": reference,
    }


@pytest.fixture
def history() -> list[dict]:
    losses = [3.0, 2.0, 1.0, 1.5]
    return [
        {
            "epoch": epoch,
            "train_loss": loss + 0.1,
            "train_psnr": 20.0 + epoch,
            "train_ssim": 0.5 + epoch / 20,
            "val_loss": loss,
            "val_psnr": 19.0 + epoch,
            "val_ssim": 0.45 + epoch / 20,
            "lr": 1e-3 / epoch,
            "seconds": 12.0,
        }
        for epoch, loss in enumerate(losses, 1)
    ]


def pixels(figure: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def residual(image: torch.Tensor, other: torch.Tensor) -> np.ndarray:
    return np.abs(image.numpy() - other.numpy()).mean(0)


def psnr_by_hand(image: torch.Tensor, clean: torch.Tensor) -> float:
    return -10 * math.log10(np.mean((image.numpy().astype(np.float64) - clean.numpy()) ** 2))


def curve(figure: Figure, panel: int, label: str) -> np.ndarray:
    (line,) = (line for line in figure.axes[panel].lines if line.get_label() == label)
    return np.asarray(line.get_ydata(), dtype=float)


BATCH_FIGURES = [
    plots.local_psnr_map,
    plots.local_ssim_map,
    plots.residual_histogram,
    plots.side_by_side,
    plots.watermark_residual,
    plots.batch_processing,
    plots.residual_error,
]
HISTORY_FIGURES = [plots.training_progress, plots.loss_psnr_ssim, plots.learning_rate]


@pytest.mark.parametrize("draw", BATCH_FIGURES, ids=lambda f: f.__name__)
def test_pictures_of_a_batch_are_not_blank_and_leave_the_batch_alone(draw, batch):
    before = {key: value.clone() for key, value in batch.items()}
    assert pixels(draw(batch)).std() > 20
    assert all(torch.equal(batch[key], value) for key, value in before.items())
    assert not pyplot.get_fignums()


@pytest.mark.parametrize("draw", BATCH_FIGURES, ids=lambda f: f.__name__)
def test_a_batch_of_one_exactly_restored_and_without_mask_draws(draw, batch):
    one = {key: value[:1] for key, value in batch.items()}
    one["restored"], one["mask"] = one["clean"], torch.zeros_like(one["mask"])
    assert pixels(draw(one)).std() > 5


@pytest.mark.parametrize("draw", HISTORY_FIGURES, ids=lambda f: f.__name__)
def test_one_row_missing_values_and_no_rows_draw(draw, history):
    assert pixels(draw(history[:1])).std() > 10
    pixels(draw([{**history[0], "val_loss": None, "train_loss": math.nan, "val_psnr": math.inf, "lr": None}]))
    pixels(draw([]))


@pytest.mark.parametrize("draw", HISTORY_FIGURES[:2], ids=lambda f: f.__name__)
def test_curves_are_the_history(draw, history):
    figure = draw(history)
    keys = ("loss", "psnr", "ssim")[: len(figure.axes)]
    assert len(keys) == (2 if draw is plots.training_progress else 3)
    for panel, key in enumerate(keys):
        for part in ("train", "val"):
            np.testing.assert_array_equal(curve(figure, panel, part), [row[f"{part}_{key}"] for row in history])


@pytest.mark.parametrize("draw", [plots.training_progress, plots.loss_psnr_ssim, plots.learning_rate])
def test_the_legend_of_curves_hides_none_of_their_points(draw, history):
    figure = draw(history)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    for axes in figure.axes:
        legend = axes.get_legend().get_window_extent(canvas.get_renderer())
        assert not legend.overlaps(axes.get_window_extent()) and figure.bbox.contains(legend.x0, legend.y0)


def test_the_epoch_of_the_lowest_val_loss_is_marked(history):
    figure = plots.training_progress(history)
    assert set(curve(figure, 0, "lowest val loss: epoch 3")) == {0, 1}  # a vertical line from bottom to top
    assert figure.axes[0].get_title() == "Loss: val 1 at epoch 3"
    assert figure.axes[1].get_title() == "PSNR (dB): val 22 at epoch 3"


def test_a_missing_value_leaves_a_gap_and_is_never_the_best(history):
    history[2]["val_loss"], history[0]["val_psnr"] = None, math.inf
    figure = plots.training_progress(history)
    assert np.isnan(curve(figure, 0, "val")).tolist() == [False, False, True, False]
    assert np.isnan(curve(figure, 1, "val")).tolist() == [True, False, False, False]
    assert figure.axes[0].get_title() == "Loss: val 1.5 at epoch 4"


def test_learning_rate_shows_used_and_planned_rates(history):
    planned = [1e-3, 9e-4, 5e-4, 1e-4, 1e-6]
    figure = plots.learning_rate(history, planned)
    np.testing.assert_array_equal(curve(figure, 0, "used"), [row["lr"] for row in history])
    np.testing.assert_array_equal(curve(figure, 0, "planned"), planned)
    assert figure.axes[0].get_yscale() == "log"
    assert plots.learning_rate(history).axes[0].get_yscale() == "linear"


@pytest.mark.parametrize(
    ("draw", "measure"), [(plots.local_psnr_map, local_psnr_map), (plots.local_ssim_map, local_ssim_map)]
)
def test_local_maps_of_input_and_restored_share_one_scale(draw, measure, batch):
    figure = draw(batch, index=1)
    before, after = figure.axes[2].images[0], figure.axes[3].images[0]
    for picture, key in ((before, "watermarked"), (after, "restored")):
        expected = measure(batch[key][1:2], batch["clean"][1:2])[0, 0].numpy()
        np.testing.assert_array_equal(picture.get_array(), expected)
    assert before.get_clim() == after.get_clim()
    assert f"{psnr_by_hand(batch['restored'][1], batch['clean'][1]):.2f} dB" in figure.axes[1].get_title()


def test_residual_histogram_counts_every_value_once(batch):
    figure = plots.residual_histogram(batch)
    inside = np.broadcast_to(batch["mask"].numpy() > 0.5, batch["clean"].shape)
    for axes, where in zip(figure.axes, (np.ones_like(inside), inside), strict=True):
        restored, nothing = (
            np.abs(batch[key].numpy() - batch["clean"].numpy())[where] for key in ("restored", "watermarked")
        )
        share, edges, _ = axes.patches[0].get_data()
        np.testing.assert_allclose(share, np.histogram(restored, edges)[0] * 100 / restored.size)
        assert share.sum() == pytest.approx(100)
        labels = [text.get_text() for text in axes.get_legend().get_texts()]
        assert [label.split(":")[0] for label in labels] == ["network alone", "watermarked"]
        numbers = [float(number) for number in re.findall(r"\d+\.\d+", " ".join(labels))]
        assert numbers == pytest.approx([restored.mean(), nothing.mean()], abs=6e-5)


def test_side_by_side_titles_hold_each_psnr_and_errors_share_one_scale(batch):
    figure = plots.side_by_side(batch, rows=2)
    panels = np.array([axes for axes in figure.axes if axes.get_title()]).reshape(2, 4)
    for i, row in enumerate(panels):
        for axes, key, name in zip(row, ("watermarked", "restored"), ("watermarked", "network alone"), strict=False):
            assert axes.get_title() == f"{name}: {psnr_by_hand(batch[key][i], batch['clean'][i]):.2f} dB"
        expected = residual(batch["restored"][i], batch["clean"][i])
        np.testing.assert_allclose(row[3].images[0].get_array(), expected, atol=1e-7)
        scale = row[3].images[0].get_clim()
        assert row[3].get_title() == f"error × {1 / scale[1]:.3g}: mean {expected.mean():.4f}"
    assert panels[0, 3].images[0].get_clim() == panels[1, 3].images[0].get_clim()


def test_side_by_side_takes_the_rows_there_are(batch):
    assert len([axes for axes in plots.side_by_side(batch, rows=9).axes if axes.get_title()]) == 3 * 4


@pytest.mark.parametrize("draw", [plots.watermark_residual, plots.residual_error])
@pytest.mark.parametrize("threshold", [0.1, 0.02])
def test_mask_panel_is_the_residual_over_the_threshold(draw, threshold, batch):
    heat, mask = draw(batch, index=2, threshold=threshold).axes[:2]
    left = residual(batch["restored"][2], batch["clean"][2])
    np.testing.assert_allclose(heat.images[0].get_array(), left, atol=1e-7)
    np.testing.assert_array_equal(mask.images[0].get_array(), left > threshold)
    assert 0 < (left > threshold).mean() < 1
    assert mask.get_title() == f"residual > {threshold:g}: {100 * (left > threshold).mean():.2f}% of pixels"


def test_watermark_residual_shows_what_was_removed(batch):
    removed = plots.watermark_residual(batch, index=1).axes[2].images[0].get_array()
    np.testing.assert_allclose(removed, residual(batch["watermarked"][1], batch["restored"][1]), atol=1e-7)


def test_residual_error_colours_the_overlay_by_the_signed_difference(batch):
    grey, colour = plots.residual_error(batch, index=1).axes[2].images
    restored, clean = batch["restored"][1].numpy().mean(0), batch["clean"][1].numpy().mean(0)
    np.testing.assert_allclose(grey.get_array(), (restored + clean) / 2, atol=1e-6)
    np.testing.assert_allclose(colour.get_array(), restored - clean, atol=1e-6)
    low, high = colour.get_clim()
    assert low == -high


def test_batch_processing_shows_input_reference_and_prediction(batch):
    figure = plots.batch_processing(batch, columns=2)
    panels = np.array(figure.axes).reshape(3, 2)
    assert [row[0].get_ylabel() for row in panels] == ["input", "reference", "predicted"]
    for row, key in zip(panels, ("watermarked", "reference", "restored"), strict=True):
        for i, axes in enumerate(row):
            expected = np.rint(batch[key][i].numpy().transpose(1, 2, 0) * 255)
            np.testing.assert_array_equal(axes.images[0].get_array(), expected)
            assert axes.get_title() == f"{psnr_by_hand(batch[key][i], batch['clean'][i]):.2f} dB"


def test_loss_shares_add_up():
    figure = plots.loss_shares({"masked_l1": 0.5, "perceptual": 0.3, "lab": 0.2, "mask_bce": 0.0})
    axes = figure.axes[0]
    assert [bar.get_width() for bar in axes.patches] == [0.5, 0.3, 0.2, 0.0]
    assert [text.get_text() for text in axes.texts] == ["0.5 (50.0%)", "0.3 (30.0%)", "0.2 (20.0%)", "0 (0.0%)"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["masked L1", "perceptual", "LAB", "mask BCE"]
    assert axes.get_title().endswith(", 1")
    assert pixels(figure).std() > 20


def test_one_bright_corner_does_not_blacken_an_error_map(batch):
    spoiled = {key: value.clone() for key, value in batch.items()}
    spoiled["restored"][0, :, 0, 0] = 1 - spoiled["clean"][0, :, 0, 0].round()
    heat = plots.residual_error(spoiled).axes[0].images[0]
    assert heat.get_array().max() > 1.5 * heat.get_clim()[1]
    assert heat.get_clim()[1] < 0.3


@pytest.fixture
def compared(batch) -> dict[str, torch.Tensor]:
    """The batch with a remover that leaves nothing of the first mark, makes the second photograph worse, and errs a little."""
    remover = batch["clean"] * 0.99
    remover[1], remover[2] = 1 - batch["clean"][1], torch.lerp(batch["clean"][2], batch["watermarked"][2], 0.1)
    return batch | {"remover": remover}


@pytest.mark.parametrize("draw", [*BATCH_FIGURES, ranked], ids=lambda f: f.__name__)
def test_the_restored_photograph_stands_beside_the_network_in_every_comparison(draw, compared):
    figure = draw(compared)
    texts = [axes.get_title() for axes in figure.axes] + [axes.get_ylabel() for axes in figure.axes]
    texts += [text.get_text() for axes in figure.axes if axes.get_legend() for text in axes.get_legend().get_texts()]
    assert any(text.startswith("restored") for text in texts)
    assert draw is ranked or any(text.startswith(("network alone", "predicted")) for text in texts)


def test_the_residuals_of_the_remover_are_its_own(compared):
    for draw in (plots.watermark_residual, plots.residual_error):
        heat = next(axes for axes in draw(compared, index=2).axes if axes.get_title().startswith("restored"))
        expected = residual(compared["remover"][2], compared["clean"][2])
        np.testing.assert_allclose(heat.images[0].get_array(), expected, atol=1e-7)


def test_the_rank_of_the_gain_alone_chooses_successes_and_failures(compared):
    before, after = (
        [psnr_by_hand(compared[key][i], compared["clean"][i]) for i in range(3)] for key in ("watermarked", "remover")
    )
    figure = ranked(compared)
    titles = [axes.get_title() for axes in figure.axes if "dB" in axes.get_title()]
    order = sorted(range(3), key=lambda i: before[i] - after[i])
    assert order[-1] == 1 and titles == [f"restored, {after[i] - before[i]:+.1f} dB" for i in order]
    assert after[1] < before[1], "a failure is among them"
    shown = np.rint(compared["watermarked"][1].numpy().transpose(1, 2, 0) * 255)
    np.testing.assert_array_equal(figure.axes[8].images[0].get_array(), shown)


def test_samples_show_input_reference_mask_and_clean_view(batch):
    panels = np.array(plots.samples(batch, columns=2).axes).reshape(4, 2)
    assert [row[0].get_ylabel() for row in panels] == ["input", "reference", "mask", "clean"]
    assert (panels[2, 1].images[0].get_array()[..., 0] == 255 * batch["mask"][1, 0].numpy()).all()


def test_augmentations_show_each_photograph_before_its_views():
    photos = [np.full((40, 40, 3), 10 * i, np.uint8) for i in (1, 2)]
    figure = plots.augmentations(photos, get_augmentations(32), draws=3)
    panels = np.array(figure.axes).reshape(2, 4)
    for photo, row in zip(photos, panels, strict=True):
        np.testing.assert_array_equal(row[0].images[0].get_array(), photo)
        assert all(axes.images[0].get_array().shape == (32, 32, 3) for axes in row[1:])


def test_progress_shows_loss_psnr_and_rate(history):
    figure = plots.progress(history)
    np.testing.assert_array_equal(curve(figure, 0, "val"), [row["val_loss"] for row in history])
    np.testing.assert_array_equal(curve(figure, 0, "train"), [row["train_loss"] for row in history])
    np.testing.assert_array_equal(curve(figure, 1, "val"), [row["val_psnr"] for row in history])
    np.testing.assert_array_equal(curve(figure, 2, "rate"), [row["lr"] for row in history])
    pixels(plots.progress([]))


def test_from_scratch_stands_beside_the_run_by_seconds_of_training(history):
    start = {"epoch": 0, "val_loss": 9.0, "val_psnr": 12.0}
    figure = plots.from_scratch([start, *history], history[:2])
    (run,) = (line for line in figure.axes[0].lines if line.get_label() == "this run")
    np.testing.assert_array_equal(run.get_xdata(), [0, 12, 24, 36, 48])
    np.testing.assert_array_equal(curve(figure, 1, "from random weights"), [20.0, 21.0])
