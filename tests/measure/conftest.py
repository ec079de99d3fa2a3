"""cnnlib first: it makes torchvision importable beside any build of PyTorch."""

import cnnlib  # noqa: F401
