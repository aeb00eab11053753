"""From samples to a trained network: the experiment, its loop, checkpoints, scores, and a run's folder."""
