"""The tricks of AlexNet one by one: ReLU, dropout and augmentation, on a network small enough for a laptop.

Krizhevsky, Sutskever and Hinton 2012, sections 3.1 (ReLU), 4.1 (augmentation) and 4.2 (dropout); an ensemble as in
section 6.

The network is ``alexnet-cifar`` at half width. Learning rates and lengths were chosen on 5,000 training images held
out for that purpose, never on the test set.
"""

from __future__ import annotations

from cnnlib.studies.study import Arm, Scale, Study, register
from cnnlib.training import Recipe, Run
