"""Shared fixtures. One torch thread, as in training: results must not depend on the machine."""

import torch

torch.set_num_threads(1)
