"""The training loop: everything on the device, nothing read back within a step, every number fixed by one seed."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import platform
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

import cnnlib
from cnnlib import settings
from cnnlib.data import Images
from cnnlib.files import user_path
from cnnlib.training import checkpoint as checkpoints
from cnnlib.training import distributed, hardware, memory
from cnnlib.training.batches import batches_of
from cnnlib.training.distributed import Processes
from cnnlib.training.errors import (
    ArgumentError,
    CheckpointError,
    Diverged,
    Interrupted,
    TrainingWarning,
    check_at_least,
    compile_errors_explained,
    lone_images_explained,
    lost_readers_explained,
    memory_errors_explained,
)
from cnnlib.training.evaluation import Evaluation, check_images, evaluate, evaluate_training_sample
from cnnlib.training.graphs import STEPS_BEFORE, few_maps, step_for
from cnnlib.training.interrupts import Interrupts
from cnnlib.training.network import Model, build, check_data, layers_of
from cnnlib.training.progress import Progress
from cnnlib.training.recipe import Recipe, find_recipe
from cnnlib.training.run import Point, Run, conditions, title

STEPS_BETWEEN_READS = {"cpu": 1, "cuda": 50}
"""Losses stay on the device and are read every so many steps: reading makes a GPU wait, and costs a CPU nothing."""
COLD_STEPS = {"cpu": 1, "cuda": STEPS_BEFORE + 1}
"""The first steps of a session fill caches, compile and record: they do not count as a measure of speed."""
EXPLODED = 1e4
"""A cross-entropy above this never comes back."""
DROPOUT = 0
"""Stream of random numbers, see :func:`cnnlib.training.hardware.stream`; the others are in batches.py. What a network
draws in a step depends on the number of the step, so that no state of a generator has to be kept."""


def fit(
    model: Model,
    data: Images,
    recipe: Recipe | str,
    *,
    seed: int = 0,
    device: torch.device | str | None = None,
    precision: str | None = None,
    compile: bool | None = None,
    sync_bn: bool = False,
    checkpoint: str | Path | None = None,
    checkpoint_every: float = 30.0,
    log_every: int | None = None,
    evaluate_every: int = 1,
    budget: str | None = None,
    progress: bool | Progress = True,
) -> Run:
    """Train a network.

    The same seed gives the same numbers on the same machine with the same number of threads. The caller's random
    numbers are left as they were. Without a seed of its own (a module that is passed) the weights are the module's.

    With ``checkpoint`` the training can be killed at any time: the same call continues it and ends with the same
    numbers, with the number of threads, the precision and the compilation that it began with. The file stays when the
    training is over, and the same call then returns the finished run, network included, at once. If the last state
    cannot be saved, the run is returned with a warning.

    In a script that ``torchrun`` has started several times, its processes train the network together. Each takes its
    share of every batch, so that the batch size remains the recipe's, and gets the finished run; only the first writes
    the checkpoint and shows progress. Up to rounding the numbers are those of a single process, but for batch
    normalisation, which without ``sync_bn`` uses the statistics of each process's own share, and for what the network
    draws at random, which each process draws for itself. Another number of processes cannot continue a checkpoint.

    Args:
        model: a registered name; a pair of name and overrides, ``("alexnet-cifar", {"activation": "nn.Tanh"})``,
            in which ``"nn.Tanh"`` means the class of torch.nn; or a module, which is moved to the device and trained
            in place.
        data: the images.
        recipe: or the name of one in :data:`cnnlib.RECIPES`.
        seed: of weights, order, augmentation and dropout.
        device: default :func:`cnnlib.device`; each of several processes takes a GPU of its own.
        precision: of convolutions and matrix products, ``"fp32"``, ``"bf16"`` or ``"fp16"``; default the fastest that
            the hardware itself computes in. Weights are always kept, and errors always evaluated, in fp32. With fp16 a
            step whose gradients overflow changes no weight, but counts: the schedule of the learning rate goes on.
        compile: use ``torch.compile``; default where it saves more time than it takes, which is never so on a CPU.
        sync_bn: normalise with the statistics of the whole batch, not of each process's share; on GPUs only.
        checkpoint: a file to save the state in and to continue from.
        checkpoint_every: seconds between savings.
        log_every: steps between points of the learning curve, besides the one at the end of every epoch.
        evaluate_every: epochs between evaluations on the test set, besides the one at the end.
        budget: is noted in the run.
        progress: False shows none.

    Returns:
        The run, with the trained network, in evaluation mode and without gradients, as ``run.module``.

    Raises:
        ArgumentError: if an argument makes no sense, or the network does not suit the images, their classes or the
            size of a process's share of a batch, or ``torch.compile`` does not work here.
        UnknownBudget: if there is no such budget.
        RecipeError: if the recipe is unknown, the training set smaller than a batch, or a batch cannot be shared.
        DataError: if there are no test images, or an image in a file cannot be read.
        UnknownModel: if there is no such model.
        BadOption: if it has no such option, or the value is not possible, or has no name to record.
        BadArgument: if a module is on the device ``meta``, without values.
        UnknownDevice: if this machine has no such device.
        CheckpointMismatch: if the checkpoint belongs to another training.
        CheckpointError: if it is damaged or cannot be written, or another training uses it.
        Diverged: if the loss of a step is infinite, not a number, or above 10,000, or the last step leaves weights that
            are no numbers.
        OutOfMemory: with the batch size to try.
        ProcessError: if another process was lost, or was started with other settings, or one that reads images was.
        Interrupted: after Ctrl-C, when the state has been saved.
    """
    check_at_least(1, log_every=log_every, evaluate_every=evaluate_every)
    if not (isinstance(checkpoint_every, int | float) and checkpoint_every >= 0):
        raise ArgumentError(f"checkpoint_every must be a number of seconds, at least 0, not {checkpoint_every!r}")
    if budget is not None:
        settings.budget(budget)
    check_data(data)
    seed = hardware.checked_seed(seed)
    recipe = find_recipe(recipe) if isinstance(recipe, str) else recipe
    if not isinstance(recipe, Recipe):
        raise ArgumentError(f"recipe must be a cnnlib.Recipe, or the name of one in cnnlib.RECIPES, not {recipe!r}")
    processes = distributed.join(device)
    device = processes.device
    processes.check_sync_bn(sync_bn)
    processes.check_batch(recipe.batch_size)
    check_images(len(data.test_labels), "test")  # now, and not after the training
    path = user_path(checkpoint) if checkpoint else None
    display = progress if isinstance(progress, Progress) else Progress(progress)
    if not processes.is_first:
        display = Progress(False)
    try:
        with (
            processes.lost_ones_explained(path),
            checkpoints.held(path if processes.is_first else None),
            compile_errors_explained(),
            lone_images_explained(processes.count),
            lost_readers_explained(),
            memory_errors_explained(recipe, device),
            memory.kept(device),
            hardware.reproducible(device),
        ):
            saved = processes.from_first(_begun(path) if path and processes.is_first else None)
            begun = saved[0] if saved else {}
            threads = processes.from_first(begun.get("threads") or torch.get_num_threads())
            given = torch.get_num_threads()
            with checkpoints.damage_explained(path):
                torch.set_num_threads(threads)
            if threads != given and processes.is_first and not (saved and checkpoints.is_finished(saved)):
                warnings.warn(
                    f"this training goes on with the {threads} thread{'' if threads == 1 else 's'} that it began with, "
                    f"not with {given}: with those it would end with other numbers",
                    TrainingWarning,
                    stacklevel=2,
                )
            training = _Training(
                model,
                data.to(device),
                recipe,
                seed=seed,
                processes=processes,
                precision=hardware.precision(device, precision or begun.get("precision")),
                compiled=begun.get("compiled") if compile is None else compile,
                sync_bn=sync_bn,
                log_every=log_every,
                evaluate_every=evaluate_every,
                path=path,
                checkpoint_every=checkpoint_every,
            )
            processes.check_same(training.identity)
            if saved:
                checkpoints.require_same(path, saved[0], training.identity)
                with checkpoints.damage_explained(path):
                    training.restore(saved[1])
            training.run(display)
            return training.result(budget)
    finally:
        if display is not progress:
            display.close()


def finished_network(model: Model, data: Images, recipe: Recipe, checkpoint: Path, *, seed: int = 0) -> nn.Module:
    """Return the network of a finished training from its checkpoint, in evaluation mode.

    It comes to this machine's :func:`cnnlib.device`, wherever and however it was trained. Arguments as for :func:`fit`.

    Raises:
        CheckpointMismatch: if the checkpoint belongs to another training.
        CheckpointError: if there is none, or it is damaged, or the training is not at its end.
    """
    saved = checkpoints.read(checkpoint)
    if not saved or not checkpoints.is_finished(saved):
        raise CheckpointError(f"{checkpoint} is not the checkpoint of a finished training; train it to its end first")
    identity, state = saved
    name, overrides, module = build(model, data, seed, settings.device())
    wanted = _trained(name, overrides, layers_of(model), recipe, seed, data)
    checkpoints.require_same(checkpoint, {key: identity[key] for key in wanted if key in identity}, wanted)
    with checkpoints.damage_explained(checkpoint):
        module.load_state_dict(state["module"])
    return module.eval()


def _begun(path: Path) -> checkpoints.Saved | None:
    """Return what a checkpoint holds, if there is one. Unless its training is over, it can be written."""
    saved = checkpoints.read(path)
    if not saved or not checkpoints.is_finished(saved):
        checkpoints.check_can_be_written(path)
    return saved


def _trained(
    model: str, overrides: dict[str, Any], layers: dict[str, str], recipe: Recipe, seed: int, data: Images
) -> dict[str, Any]:
    """Return what is trained how and on what, wherever that is."""
    return {
        "model": model,
        "overrides": overrides,
        "layers": layers,
        "recipe": recipe.as_dict(),
        "seed": seed,
        "data": data.fingerprint,
        "mean": [float(value) for value in data.mean],
        "std": [float(value) for value in data.std],
    }


class _Training:
    """One training with all its state. Between two steps the state is whole, and can be saved and restored."""

    def __init__(
        self,
        model: Model,
        data: Images,
        recipe: Recipe,
        *,
        seed: int,
        processes: Processes,
        precision: str,
        compiled: bool | None,
        sync_bn: bool,
        log_every: int | None,
        evaluate_every: int,
        path: Path | None,
        checkpoint_every: float,
    ) -> None:
        self.data, self.recipe, self.seed, self.precision, self.sync_bn = data, recipe, seed, precision, sync_bn
        self.processes, self.device = processes, processes.device
        self.log_every, self.evaluate_every = log_every, evaluate_every
        self.path, self.checkpoint_every = path, checkpoint_every
        self.batches = batches_of(data, recipe, seed, processes)
        self.steps = recipe.steps(len(data.train_labels))
        self.model, self.overrides, self.module = build(model, data, seed, self.device)
        if sync_bn and processes.count > 1:
            self.module = nn.SyncBatchNorm.convert_sync_batchnorm(self.module)
        self.layers = layers_of(model)  # as they are now, so that the same call with the same module finds them again
        self.parameters = sum(parameter.numel() for parameter in self.module.parameters())
        self.compiled = self._compiling_pays() if compiled is None else compiled
        self.step = step_for(self.module, recipe, data, precision, self.compiled, processes)

        self.done = 0
        self.history: list[Point] = []
        self.train: Evaluation | None = None  # at the end
        self.unread: list[tuple[Tensor, Tensor]] = []  # what the steps returned that were not yet read
        self.sums = _Sums()  # of the steps since the last point
        self.clock, self.cold_clock, self.training_clock = _Clock(), _Clock(), _Clock()
        self.timed_images = 0  # by the last of the three
        self.cold_steps = COLD_STEPS.get(self.device.type, 1)
        self.saved_at = 0.0
        self.made_on = hardware.device_in_words(self.device)
        self.versions = {
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "cnnlib": cnnlib.__version__,
        }
        self.interrupts = Interrupts(listening=processes.is_first)

    def _compiling_pays(self) -> bool:
        if self.device.type != "cuda":  # it never does there, so nothing needs to be counted
            return False
        image = torch.zeros(1, *self.data.image_size, device=self.device)
        images = self.recipe.batch_size * self.steps / self.processes.count
        with hardware.SHARED:
            operations = hardware.operations_per_image(self.module, image) * images
        layers = sum(isinstance(part, nn.Conv2d | nn.Linear) for part in self.module.modules())
        return hardware.compiling_pays(self.device, operations=operations, layers=layers)

    # The loop. Ctrl-C is held back everywhere but in evaluations and between steps.

    def run(self, display: Progress) -> None:
        """Train to the end, from wherever the training is."""
        if self.train is not None:
            return
        steps_between_reads = STEPS_BETWEEN_READS.get(self.device.type, 1)
        self.module.train()
        self.clock.start()
        self.saved_at = time.monotonic()
        with (
            display.start(self._statement(), self.steps, self.done) as bar,
            memory.relu_in_place(self.module),
            few_maps(self.step),
            contextlib.closing(self.batches),
            self.interrupts,
        ):
            try:
                while True:
                    if self._point_is_due():
                        self._add_point()
                    if self.done == self.steps:
                        break
                    self._train_step()
                    if self.done % steps_between_reads == 0:
                        self._read()
                        self._show(bar)
                        if time.monotonic() - self.saved_at > self.checkpoint_every:
                            self._save()
                    self.interrupts.check()
            except KeyboardInterrupt:
                raise self._interrupted() from None
        self.clock.stop()
        try:
            self._save()
        except CheckpointError as error:  # of no use to a run that is finished
            warnings.warn(str(error), TrainingWarning, stacklevel=3)

    def _train_step(self) -> None:
        (self.cold_clock if self.cold_steps else self.training_clock).start()
        if hasattr(self.module, "set_progress"):  # a net whose regularisation grows as the training goes on
            self.module.set_progress(self.done / self.steps)
        images, labels = self.batches[self.done]
        with hardware.SHARED:
            hardware.seed_generators(self.device, hardware.stream(self.seed, DROPOUT, self.processes.rank, self.done))
            self.unread.append(self.step(images, labels, self.recipe.lr_at(self.done, self.steps)))
        self.done += 1
        if self.cold_steps:
            self._read()
            self.cold_clock.stop()
            self.cold_steps -= 1
        else:
            self.timed_images += self.recipe.batch_size

    def _read(self) -> None:
        """Read the losses of the last steps from the device, and stop if one of them is absurd."""
        if not self.unread:
            return
        losses, correct = (torch.stack(values).tolist() for values in zip(*self.unread, strict=True))
        first = self.done - len(losses) + 1
        self.unread.clear()
        for step, (loss, right) in enumerate(zip(losses, correct, strict=True), start=first):
            if not math.isfinite(loss) or loss > EXPLODED:
                raise self._diverged(step, loss)
            self.sums.add(loss, right, self.recipe.batch_size)

    def _point_is_due(self) -> bool:
        if self.done == 0 or (self.history and self.history[-1].step == self.done):
            return False
        return (
            self.done == self.steps
            or self.done % self.batches.steps_per_epoch == 0
            or (self.log_every is not None and self.done % self.log_every == 0)
        )

    def _add_point(self) -> None:
        self._read()
        self.training_clock.stop()
        epoch, within = divmod(self.done, self.batches.steps_per_epoch)
        at_end = self.done == self.steps
        test = train = None
        with self.interrupts.let_through():
            if at_end or (within == 0 and epoch % self.evaluate_every == 0):
                self.processes.copy_buffers(self.module)
                test = evaluate(self.module, self.data, processes=self.processes)
            if at_end:
                train = evaluate_training_sample(self.module, self.data, self.processes)
        # No later step shows what the last one made of the weights. The loss by itself says nothing in evaluation mode:
        # in the first steps of a deep net it overflows, since the running statistics are not there yet.
        for evaluation in filter(None, (test, train)):
            if not math.isfinite(evaluation.loss) and not all(w.isfinite().all() for w in self.module.parameters()):
                raise self._diverged(self.done, evaluation.loss)
        self.train = train
        self.history.append(
            Point(
                step=self.done,
                epoch=self.done / self.batches.steps_per_epoch,
                lr=self.recipe.lr_at(self.done - 1, self.steps),
                train_loss=self.sums.loss / self.sums.steps,
                train_error=100 * (self.sums.images - self.sums.correct) / self.sums.images,
                test_loss=test.loss if test else None,
                test_error=test.error if test else None,
                seconds=self.clock.seconds,
            )
        )
        self.sums = _Sums()

    def _show(self, bar: tqdm) -> None:
        loss, accuracy = self.sums.loss / self.sums.steps, 100 * self.sums.correct / self.sums.images
        bar.set_postfix_str(
            f"loss {loss:.3f}, accuracy {accuracy:.1f} %, {self._images_per_second():,.0f} images/s", refresh=False
        )
        bar.update(self.done - bar.n)

    # Saving and restoring.

    @functools.cached_property
    def identity(self) -> dict[str, Any]:
        """What must be the same for a checkpoint to continue this training."""
        return _trained(self.model, self.overrides, self.layers, self.recipe, self.seed, self.data) | {
            "parameters": self.parameters,
            "device": self.device.type,
            "precision": self.precision,
            "compiled": self.compiled,
            "processes": self.processes.count,
            "sync_bn": self.sync_bn,
            "threads": torch.get_num_threads(),
            "log_every": self.log_every,
            "evaluate_every": self.evaluate_every,
        }

    def _save(self) -> None:
        if self.path is None or not self.processes.is_first:
            return
        self._read()
        self.training_clock.stop()
        state = {
            "done": self.done,
            "module": self.module.state_dict(),
            "step": self.step.state(),
            "sums": dataclasses.asdict(self.sums),
            "history": [dataclasses.asdict(point) for point in self.history],
            "train": dataclasses.asdict(self.train) if self.train else None,
            "seconds": self.clock.seconds,
            "cold_seconds": self.cold_clock.seconds,
            "training_seconds": self.training_clock.seconds,
            "timed_images": self.timed_images,
            "torch": str(torch.__version__),
            "device": self.made_on,
            "versions": self.versions,
        }
        try:
            checkpoints.write(self.path, self.identity, state)
        except CheckpointError as error:
            raise CheckpointError(f"{error}, at step {self.done} of {self.steps}; {self._advice()}") from error
        self.saved_at = time.monotonic()

    def _advice(self) -> str:
        """Say what to do when the state cannot be saved."""
        if self.train:
            again = "trains its last steps again" if self.path.exists() else "trains again"
            return f"the run is finished, and only this copy of it is missing: the same call, or command, {again}"
        start = "continues from what was saved before" if self.path.exists() else "then starts again"
        return f"make room there, and the same call, or command, {start}; or give another path"

    def restore(self, state: dict[str, Any]) -> None:
        """Take back the state that a checkpoint holds."""
        if state["train"] and "versions" in state:  # the first versions did not keep them
            self.made_on, self.versions = state["device"], state["versions"]
        elif state["torch"] != torch.__version__:
            warnings.warn(
                f"this training began with torch {state['torch']} and continues with {torch.__version__}: "
                "it may end with slightly different numbers than in one go",
                TrainingWarning,
                stacklevel=3,
            )
        self.done = state["done"]
        self.sums = _Sums(**state["sums"])
        self.history = [Point(**point) for point in state["history"]]
        self.train = Evaluation(**state["train"]) if state["train"] else None
        self.clock.seconds_before = state["seconds"]
        self.cold_clock.seconds_before = state.get("cold_seconds", state["seconds"])  # the first versions lack it
        self.training_clock.seconds_before = state["training_seconds"]
        self.timed_images = state["timed_images"]
        self.step.restore(state["step"])
        # Last, so that a module that was passed keeps its weights if anything else is missing.
        self.module.load_state_dict(state["module"])

    # What it says.

    def _statement(self) -> str:
        subject = title(self.model, self.overrides, self.data.name, self.data.stands_in_for)
        continued = f", continuing at step {self.done:,}" if self.done else ""
        return f"{subject}, {self._hardware()}, recipe {self.recipe}, seed {self.seed}{continued}"

    def _hardware(self) -> str:
        return conditions(
            hardware.device_in_words(self.device),
            self.device.type,
            torch.get_num_threads(),
            self.precision,
            self.compiled,
            self.processes.count,
            self.sync_bn,
        )

    def _images_per_second(self) -> float:
        if self.timed_images:
            return self.timed_images / self.training_clock.seconds
        return self.done * self.recipe.batch_size / self.cold_clock.seconds  # better than nothing

    def _diverged(self, step: int, loss: float) -> Diverged:
        if self.path and self.processes.is_first:  # the same training would diverge again
            self.path.unlink(missing_ok=True)
        lr = self.recipe.lr_at(step - 1, self.steps)
        published = self.recipe.origin or self.recipe
        lower = f"{published.lr if published.lr < self.recipe.lr else self.recipe.lr / 10:g}"
        return Diverged(
            f"{self.model}: the loss is {loss:.4g} at step {step} of {self.steps} "
            f"(learning rate {lr:g}, seed {self.seed}). Try a recipe with a lower learning rate, lr={lower}, "
            f"on the command line --lr {lower}, or in Python with a warm-up, warmup=0.05 and warmup_lr={lower}"
        )

    def _interrupted(self) -> Interrupted:
        where = f"stopped at step {self.done} of {self.steps}"
        if self.path is None:
            return Interrupted(
                f"{where}; to be able to continue, give fit a checkpoint=… file, or leave out --no-checkpoint"
            )
        if not self.interrupts.forced:
            self._save()
        if not self.path.exists():
            return Interrupted(f"{where}, before anything was saved")
        return Interrupted(f"{where}; the same call, or command, continues from {self.path}")

    def result(self, budget: str | None) -> Run:
        """Return the finished run, its network in evaluation mode and without gradients.

        On a GPU they would keep all the memory of the recorded step for as long as the network lives.
        """
        self.module.eval()
        self.module.zero_grad(set_to_none=True)
        last = self.history[-1]
        return Run(
            model=self.model,
            overrides=self.overrides,
            parameters=self.parameters,
            recipe=self.recipe,
            steps=self.steps,
            seed=self.seed,
            data=self.data.name,
            stands_in_for=self.data.stands_in_for,
            train_images=len(self.data.train_labels),
            history=tuple(self.history),
            train=self.train,
            test=Evaluation(last.test_loss, last.test_error, len(self.data.test_labels)),
            seconds=self.clock.seconds,
            images_per_second=self._images_per_second(),
            device=self.made_on,
            device_type=self.device.type,
            threads=torch.get_num_threads(),
            precision=self.precision,
            compiled=self.compiled,
            processes=self.processes.count,
            sync_bn=self.sync_bn,
            versions=self.versions,
            budget=budget,
            module=self.module,
        )


@dataclasses.dataclass
class _Sums:
    """Sums over steps, kept in double precision on the host."""

    steps: int = 0
    images: int = 0
    loss: float = 0.0
    correct: int = 0

    def add(self, loss: float, correct: int, images: int) -> None:
        self.steps += 1
        self.images += images
        self.loss += loss
        self.correct += correct


class _Clock:
    """Seconds, with pauses."""

    def __init__(self) -> None:
        self.seconds_before = 0.0
        self._since: float | None = None

    def start(self) -> None:
        if self._since is None:
            self._since = time.perf_counter()

    def stop(self) -> None:
        self.seconds_before, self._since = self.seconds, None

    @property
    def seconds(self) -> float:
        return self.seconds_before + (time.perf_counter() - self._since if self._since is not None else 0.0)
