"""The state from which an unfinished run resumes: one small file, and its tensors in parts of under 16 MB each."""

from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from .checkpoints import read_checkpoint
from .runs import atomic_path

STATE = "training_state.pt"  # only while a run is unfinished; it names its parts
PARTS = "training_state.{at}.{part}.safetensors"
MOMENTS = ("exp_avg", "exp_avg_sq")  # of AdamW; float32, so that a resumed run equals an unbroken one


def save_state(training, result) -> None:
    """Write everything that the next step of a `Training` depends on, and what its `TrainResult` holds so far.

    The parts bear epoch and step in their names, and those of the state before go when `training_state.pt` names the new
    ones: whenever a run breaks off, a whole state is there.
    """
    state = {name: getattr(training, name).state_dict() for name in ("scheduler", "scaler")}
    tensors = {"weights": training.net.state_dict()}
    if training.averaged is not None:
        tensors["average"] = training.averaged.state_dict()
    for name in _optimizers(training, result):
        state[name] = getattr(training, name).state_dict()
        for moment in MOMENTS:
            # A new dict a parameter: the optimiser's own must keep its moments.
            values = {str(i): each[moment] for i, each in state[name]["state"].items()}
            tensors |= {f"{name}_{moment}": values} if values else {}
        kept = {i: {"step": each["step"]} for i, each in state[name]["state"].items()}
        state[name] = state[name] | {"state": kept}
    state |= {"config": training.config.to_dict(), "steps_per_epoch": training.steps_per_epoch}
    state["perceptual_weights"] = training.criterion.perceptual_source
    state["torch_rng"] = torch.get_rng_state()
    state["progress"] = {name: value for name, value in asdict(result).items() if name != "folder"}
    at = f"{len(result.warmup_losses) + len(result.history)}-{result.underway.steps}"
    state["parts"] = {part: PARTS.format(at=at, part=part) for part in tensors}
    for part, values in tensors.items():
        with atomic_path(result.folder / state["parts"][part]) as path:
            save_file({name: x.detach().cpu().contiguous() for name, x in values.items()}, path)
    with atomic_path(result.folder / STATE) as path:
        torch.save(state, path)
    _remove_parts(result.folder, kept=state["parts"].values())


def load_state(training, result) -> None:
    """Put a `Training` and its `TrainResult` back to where `save_state` left them.

    Raises:
        ValueError: there is no state, it is damaged, or it belongs to other settings; the message names them.
    """
    path = result.folder / STATE
    if not path.exists():
        raise ValueError(
            f"{result.folder} has no {STATE} to resume from: the run has finished, or never got as far as to save one"
        )
    state = read_checkpoint(path, training.device)
    _check_fits(training, state, path)
    tensors = {part: _read_part(result.folder / name) for part, name in state["parts"].items()}
    training.net.load_state_dict(tensors["weights"])
    if training.averaged is not None:
        training.averaged.load_state_dict(tensors["average"])
    for name in ("warmup_optimizer", "optimizer"):
        if name not in state:  # the warm-up was over
            continue
        for moment in MOMENTS:
            for i, value in tensors.get(f"{name}_{moment}", {}).items():
                state[name]["state"][int(i)][moment] = value
        getattr(training, name).load_state_dict(state[name])
    training.scheduler.load_state_dict(state["scheduler"])
    if state["scaler"] and training.scaler.is_enabled():  # one that is off saves nothing, and loads nothing
        training.scaler.load_state_dict(state["scaler"])
    torch.set_rng_state(state["torch_rng"].cpu())
    progress = state["progress"]
    vars(result).update(progress | {"underway": type(result.underway)(**progress.get("underway", {}))})
    result.stopped = "finished"


def remove_state(folder: Path) -> None:
    """Remove the state of a run that has finished."""
    (folder / STATE).unlink(missing_ok=True)
    _remove_parts(folder)


def _optimizers(training, result) -> list[str]:
    """Those that the next step depends on."""
    warming = len(result.warmup_losses) < training.config.warmup_epochs
    return ["warmup_optimizer", "optimizer"] if warming else ["optimizer"]


def _check_fits(training, state: dict, path: Path) -> None:
    changed = [name for name, value in training.config.to_dict().items() if state["config"].get(name) != value]
    if changed:
        raise ValueError(
            f"{path} was trained with other settings ({', '.join(changed)}); resume with the run's own config"
        )
    if state["steps_per_epoch"] != training.steps_per_epoch:
        raise ValueError(
            f"{path} was trained with {state['steps_per_epoch']} steps an epoch; resume with the same photographs"
        )
    if state["perceptual_weights"] != training.criterion.perceptual_source:
        raise ValueError(
            f"{path} was trained with {state['perceptual_weights']} perceptual features, this start loaded "
            f"{training.criterion.perceptual_source}; losses would not be comparable"
        )


def _read_part(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path} is missing or damaged ({reason}); the run cannot be resumed, start it anew") from None


def _remove_parts(folder: Path, kept=()) -> None:
    for path in folder.glob(PARTS.format(at="*", part="*")):
        if path.name not in kept:
            path.unlink()
