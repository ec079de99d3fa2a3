"""Architecture search that really runs, over a small space of cells.

A :class:`Space` says which cells there are. A :class:`Policy` proposes some, by a :class:`Controller` that learns from
rewards, and :class:`Uniform` proposes any. :func:`search` tries them, each trained from scratch or all with one set of
weights (:class:`SharedNet`), and returns the best that it saw.
"""

from cnnlib.search.controller import Controller, Policy, Uniform, policy_loss
from cnnlib.search.loop import WAYS, Effort, Found, Round, SearchError, Split, Way, search, split
from cnnlib.search.shared import SharedNet, network
from cnnlib.search.space import OPERATIONS, Space, SpaceError
