"""Training: the fit loop, losses, distillation, refit, checkpoints."""
