"""Average the weights of runs that were trained one from another: often better than each of them (`average`)."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from wmremoval.files import atomic_path, read_json, write_json
from wmremoval.training.checkpoints import BEST_MODEL, BEST_WEIGHTS, form_of, load_model
from wmremoval.training.run_folder import new_run

KEPT = ("split.json", "training_summary.json", "training_history.json", "training_history.csv")  # copied from run 1


def average_runs(runs: Sequence[str | Path], outputs: str | Path, name: str = "average") -> Path:
    """Make a run whose weights are the mean of several runs' weights; it can be evaluated and shipped like any run.

    The mean works because fine-tuned weights stay in the loss basin of their start ("model soups", Wortsman et al.
    2022, arXiv 2203.05482). The new run has the recipe, history and split of the first run, and its `config.json`
    names all averaged runs.

    Args:
        runs: folders of finished runs with the same form of network and the same split, the last training first.
            A folder named twice counts twice.
        outputs: the new run is `outputs/runs/<date>_<name>`.
        name: name of the new run.

    Returns:
        the folder of the new run.

    Raises:
        ValueError: fewer than two runs, or a run differs in form or split; the message names it.
    """
    folders = [Path(run) for run in runs]
    if len(folders) < 2:
        raise ValueError("an average needs at least two runs; name their folders")
    models = [load_model(folder) for folder in folders]
    config, split = read_json(folders[0] / "config.json"), read_json(folders[0] / "split.json")
    form = form_of(config["train"]) | {"image_size": ""}  # the training size may differ
    for folder, (_, about) in zip(folders[1:], models[1:], strict=True):
        if form_of(about["config"]) | {"image_size": ""} != form:
            raise ValueError(f"{folder} has another form of network than {folders[0]}; average runs of one form")
        if read_json(folder / "split.json") != split:
            raise ValueError(f"{folder} was trained on another split than {folders[0]}; average runs of one split")
    states = [net.state_dict() for net, _ in models]
    mean = {key: _mean([state[key] for state in states]) for key in states[0]}
    folder = new_run(outputs, name)
    write_json(folder / "config.json", config | {"averaged": [each.name for each in folders]})
    for file in KEPT:
        shutil.copyfile(folders[0] / file, folder / file)
    with atomic_path(folder / BEST_WEIGHTS) as path:
        save_file(mean, path, metadata=form_of(config["train"]))
    with atomic_path(folder / BEST_MODEL) as path:
        torch.save({**models[0][1], "model": mean}, path)
    return folder


def _mean(values: Sequence[torch.Tensor]) -> torch.Tensor:
    if not values[0].is_floating_point():
        return values[0].clone()  # BatchNorm's count of batches
    return torch.stack([value.double() for value in values]).mean(dim=0).to(values[0].dtype).contiguous()
