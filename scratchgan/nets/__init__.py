"""Backbones that are no paper's contribution, shared by the files in `gans/`: `mlp` and `dcgan`."""
