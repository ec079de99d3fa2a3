"""Training: recipes as data, a loop that can be killed and continued, and what comes of it."""

from cnnlib.training.engine import fit
from cnnlib.training.errors import (
    ArgumentError,
    BenchError,
    CheckpointError,
    CheckpointMismatch,
    Diverged,
    Interrupted,
    OutOfMemory,
    ProcessError,
    RecipeError,
    RunError,
    TrainingWarning,
)
from cnnlib.training.evaluation import Evaluation, evaluate, predict
from cnnlib.training.progress import Progress
from cnnlib.training.recipe import RECIPES, Recipe, find_recipe, recipe_for
from cnnlib.training.run import Point, Run
from cnnlib.training.timing import StepTimes, step_times
