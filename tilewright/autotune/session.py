"""A tuning session: what the child process does for `tilewright.tune`.

    find the tasks; try each default
    until the budget is used:
        the task that helps the model most -> a batch of choices -> compiled, checked, measured
    each task's best once more against the default, longer

Every trial is in the database before the next begins: a session that is killed loses the trials in
flight, and the same session again does not measure what is there.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from tilewright.analysis import roofline
from tilewright.autotune.cost_model import CostModel, Sample
from tilewright.autotune.duel import Duel, duel
from tilewright.autotune.program import Conditions
from tilewright.autotune.records import Database, Record, fingerprint, now, versions
from tilewright.autotune.search import Candidate, Search
from tilewright.autotune.tasks import Task, tasks_of
from tilewright.autotune.trial import BUILD_SECONDS, Trial, TrialFailed, start
from tilewright.compiler import pipeline, pool
from tilewright.compiler.child import Emit
from tilewright.compiler.compile_job import work_of
from tilewright.compiler.kernel_cache import KernelCache, default_folder
from tilewright.errors import CompileError, OptionError
from tilewright.targets import Target
from tilewright.targets.rules.catalogue import Choice

BATCH = 16
# Faster than this many times the peak is no kernel but an error of the clock or of the kernel.
IMPLAUSIBLE = 1.25
# What a batch is expected to gain before any was tried, and how fast that follows what it does.
HOPE = 0.2
FOLLOWS = 0.5
# No task is given up before so many batches.
FEWEST_BATCHES = 3
# The best few are compared once more: of many trials, the fastest was lucky too.
FINALISTS, FINAL_ROUNDS = 3, 24
# Trials of other targets say less about this one.
RELATIVE_WEIGHT = 0.3


@dataclass
class Progress:
    """A task on its way: `best` is the fastest choice with its time over the default's.

    `seconds` are those of the default, `least` what the machine could do with the fewest operations
    that any choice needs.
    """

    task: Task
    search: Search
    seconds: float
    least: float
    trials: int = 0
    batches: int = 0
    hope: float = HOPE
    best: tuple[float, Choice] | None = None
    failures: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> float:
        """Seconds of a run of the model in the groups of this task, with the best choice."""
        ratio = self.best[0] if self.best else 1.0
        return self.task.times * self.seconds * ratio

    def done(self, min_gain: float) -> bool:
        """Whether more trials are not worth it."""
        near = self.seconds * (self.best[0] if self.best else 1.0) <= 1.03 * self.least
        tired = self.batches >= FEWEST_BATCHES and self.hope < min_gain / 2
        return self.search.exhausted or near or tired

    def row(self) -> dict[str, Any]:
        """As JSON values, for tables and reports."""
        return {
            "task": self.task.name,
            "spec": self.task.spec.to_dict(),
            "nodes": list(self.task.nodes),
            "times": self.task.times,
            "default_seconds": self.seconds,
            "best_seconds": self.seconds * (self.best[0] if self.best else 1.0),
            "least_seconds": self.least,
            "trials": self.trials,
            "failures": {**self.failures, **self.search.broken},
            "rule": self.best[1].rule if self.best else None,
            "knobs": dict(self.best[1].knobs) if self.best else {},
        }


def session_job(job: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Tune the model of `job`; returns the tasks and the choices that won."""
    return _Session(job, emit).run()


class _Session:
    def __init__(self, job: dict[str, Any], emit: Emit) -> None:
        self._job, self._emit = job, emit
        # The parent's: it is removed even when this process, or a trial, is killed.
        self._folder = Path(job["folder"])
        self._database = Database(Path(job["db"]))
        self._work = work_of(job)
        self._target: Target = self._work.target
        self._fingerprint = fingerprint(self._target)
        self._model = CostModel(job["seed"])
        self._samples: dict[str, list[tuple[Candidate, float]]] = {}
        self._begin = time.monotonic()
        self._trials = 0

    def run(self) -> dict[str, Any]:
        """The whole session."""
        tasks, left = self._tasks()
        cache = KernelCache(default_folder()) if self._job["cache"] else None
        self._conditions = Conditions(
            self._target,
            self._job["threads"],
            pool.write_object(self._folder),
            cache,
            self._folder,
            self._job["seed"],
        )
        self._machine = self._measured()
        known, self._others = self._known(tasks)
        running = []
        for number, task in enumerate(tasks):
            self._emit("start", step=f"default {number + 1}/{len(tasks)}")
            running.append(self._begun(task, known.get(task.key, [])))
        self._emit("tasks", rows=[one.row() for one in running])
        self._search(running)
        won = self._final(running)
        return {
            "tasks": [one.row() for one in running],
            "left": left,
            "won": won,
            "trials": self._trials,
            "seconds": time.monotonic() - self._begin,
            "importance": self._model.importance(),
        }

    def _measured(self) -> roofline.Roofline:
        """What this machine can do, measured in a process that leaves no threads here."""
        threads = self._job["threads"]

        def work(send: Callable[..., None], _commands: Any) -> None:
            send(**roofline.measure(self._target, threads).to_dict())

        trial = Trial(work)
        try:
            return roofline.Roofline.from_dict(trial.answer(BUILD_SECONDS))
        except TrialFailed as error:
            raise CompileError(f"cannot measure what this machine can do: {error}") from error
        finally:
            trial.close()

    def _tasks(self) -> tuple[list[Task], dict[str, str]]:
        """The model's tasks, those whose name or node the user's pattern matches."""
        stages = pipeline.chosen_stages(self._work.options)
        names = [stage.name for stage in stages]
        if "fuse" not in names or "lower" not in names:
            raise OptionError(
                "there is nothing to tune without groups and rules",
                expected="-O2 or -O3, with the step `lower`",
            )
        for stage in stages[: names.index("fuse") + 1]:
            self._emit("start", step=stage.name)
            begin = time.perf_counter()
            note = stage.run(self._work)
            spent = time.perf_counter() - begin
            self._emit("done", step=stage.name, seconds=spent, note=note, why=stage.why)
        tasks, left = tasks_of(self._work)
        pattern = self._job["tasks"]
        if pattern:
            tasks = [t for t in tasks if any(fnmatch(n, pattern) for n in (t.name, *t.nodes))]
            if not tasks:
                raise OptionError(
                    f"no task or node is called {pattern}", hint="`tilewright inspect` lists them"
                )
        if not tasks:
            raise OptionError(
                "the model has no group that a rule takes",
                where=self._work.path.name,
                expected="; ".join(f"{name}: {why}" for name, why in left.items()) or None,
            )
        return tasks, left

    def _known(self, tasks: list[Task]) -> tuple[dict[str, list[Record]], list[Record]]:
        """Earlier trials of these tasks here, by task; and all other trials."""
        records, problems = self._database.read()
        for problem in problems:
            self._emit("note", text=f"{self._database.path}:{problem.line}: {problem.reason}")
        keys = {task.key for task in tasks}
        own: dict[str, list[Record]] = {}
        others: list[Record] = []
        for record in records:
            here = record.target == self._fingerprint and record.threads == self._job["threads"]
            if record.confirmed:
                continue
            if here and record.spec in keys:
                own.setdefault(record.spec, []).append(record)
            elif record.seconds:
                others.append(record)
        return ({}, others) if self._job["fresh"] else (own, others)

    # One task

    def _begun(self, task: Task, known: list[Record]) -> Progress:
        """The default's time, and what is known from earlier sessions."""
        search = Search(task, self._target, self._job["seed"])
        trial, said = self._default(task)
        try:
            times = sorted(t for _ in range(3) for t in trial.run(0.03))
        except TrialFailed as error:
            raise _broken(task, error) from error
        finally:
            trial.close()
        seconds = times[len(times) // 2]
        one = Progress(task, search, seconds, self._least(task, said["flops"]))
        search.told(search.default(), 1.0)
        self._samples[task.key] = [(search.default(), 1.0)]
        for record in known:
            candidate = Candidate(Choice(record.rule, dict(record.knobs)), dict(record.facts))
            ratio = record.median / record.default_seconds if record.seconds else None
            self._told(one, candidate, ratio, record.failure, record.flops)
        return one

    def _least(self, task: Task, flops: int | None) -> float:
        """Seconds that so many operations on the task's arguments take at least."""
        size = sum(4 * math.prod(a.shape) for a in (*task.call.arguments, task.call.result))
        return self._machine.least_seconds(flops or 0, size)[0]

    def _default(self, task: Task) -> tuple[Trial, dict[str, Any]]:
        trial = start(task, None, self._conditions, self._reference(task))
        try:
            return trial, trial.answer(BUILD_SECONDS)
        except TrialFailed as error:
            raise _broken(task, error) from error

    def _reference(self, task: Task) -> Path:
        return self._folder / f"{task.name}.npy"

    def _told(
        self,
        one: Progress,
        candidate: Candidate,
        ratio: float | None,
        failure: str | None,
        flops: int | None,
    ) -> None:
        one.trials += 1
        one.search.told(candidate, ratio)
        if ratio is None:
            one.failures[failure or "unknown"] += 1
            return
        self._samples[one.task.key].append((candidate, ratio))
        if flops is not None:
            one.least = min(one.least, self._least(one.task, flops))
        if ratio < (one.best[0] if one.best else 1.0):
            one.best = (ratio, candidate.choice)

    # The search

    def _search(self, running: list[Progress]) -> None:
        while not self._spent():
            open_tasks = [one for one in running if not one.done(self._job["min_gain"])]
            if not open_tasks:
                return
            one = max(open_tasks, key=lambda task: task.total * task.hope)
            before = one.best[0] if one.best else 1.0
            self._learn()
            batch = one.search.next(min(BATCH, self._left()), self._model)
            self._batch(one, batch)
            gained = 1.0 - (one.best[0] if one.best else 1.0) / before
            one.hope = (1 - FOLLOWS) * one.hope + FOLLOWS * gained
            one.batches += 1

    def _left(self) -> int:
        most = self._job["trials"]
        return BATCH if most is None else max(0, most - self._trials)

    def _spent(self) -> bool:
        return self._late() or self._left() == 0

    def _learn(self) -> None:
        samples = []
        for key, tried in self._samples.items():
            fastest = min(ratio for _, ratio in tried)
            samples += [Sample(key, c.facts, fastest / ratio) for c, ratio in tried]
        best: dict[tuple, float] = {}
        for record in self._others:
            best[record.task] = min(record.median, best.get(record.task, record.median))
        for record in self._others:
            weight = 1.0 if record.target == self._fingerprint else RELATIVE_WEIGHT
            speed = best[record.task] / record.median
            samples.append(Sample(str(record.task), record.facts, speed, weight))
        self._model.fit(samples)

    def _batch(self, one: Progress, batch: list[Candidate]) -> None:
        """Compile `batch` at the same time, then measure one by one against the default."""
        reference = self._reference(one.task)
        default, _ = self._default(one.task)
        trials: list[tuple[Candidate, Trial]] = []
        try:
            for candidate in batch:
                trial = start(one.task, candidate.choice, self._conditions, reference)
                trials.append((candidate, trial))
            ready = [(candidate, trial, _ready(trial)) for candidate, trial in trials]
            for candidate, trial, (said, failure) in ready:
                found: Duel | None = None
                if said is not None:
                    try:
                        found = self._plausible(duel(default, trial), said["flops"])
                    except TrialFailed as error:
                        if default.ended:
                            return  # No fault of the choice, which is still to be tried.
                        failure = str(error)
                trial.close()
                self._record(one, candidate, found, failure, said["flops"] if said else None)
                if self._late():
                    return
        finally:
            default.close()
            for _, trial in trials:
                trial.close()

    def _late(self) -> bool:
        budget = self._job["budget"]
        return budget is not None and time.monotonic() - self._begin > budget

    def _plausible(self, found: Duel, flops: int | None) -> Duel:
        rate = (flops or 0) / found.seconds[1]
        if rate > IMPLAUSIBLE * self._machine.peak:
            raise TrialFailed(f"{rate / 1e9:.0f} GF/s are more than this machine can do")
        return found

    def _record(
        self,
        one: Progress,
        candidate: Candidate,
        found: Duel | None,
        failure: str | None,
        flops: int | None,
    ) -> None:
        self._trials += 1
        record = Record(
            spec=one.task.key,
            target=self._fingerprint,
            threads=self._job["threads"],
            rule=candidate.choice.rule,
            knobs=dict(candidate.choice.knobs),
            seconds=found.fair_seconds if found else (),
            default_seconds=found.default_seconds if found else None,
            flops=flops,
            failure=failure,
            facts=dict(candidate.facts),
            date=now(),
            versions=versions(),
        )
        self._database.append([record])
        self._told(one, candidate, found.ratio if found else None, failure, flops)
        self._emit(
            "trial",
            row=one.row(),
            trials=self._trials,
            seconds=time.monotonic() - self._begin,
            failure=failure,
        )

    # The end

    def _final(self, running: list[Progress]) -> list[dict[str, Any]]:
        """The best few of each task once more against the default: what still wins."""
        won = []
        for one in running:
            self._emit("start", step=f"confirm {one.task.name}")
            most = 1 - self._job["min_gain"]
            duels = [
                (found, candidate.choice)
                for candidate in one.search.best(FINALISTS, most)
                if (found := self._longer(one.task, candidate.choice)) and found.ratio <= most
            ]
            one.best = None
            if not duels:
                continue
            found, choice = min(duels, key=lambda pair: pair[0].ratio)
            one.best = (found.ratio, choice)
            won.append(
                {
                    "spec": one.task.key,
                    "rule": choice.rule,
                    "knobs": dict(choice.knobs),
                    "seconds": list(found.fair_seconds),
                    "default_seconds": found.default_seconds,
                }
            )
        return won

    def _longer(self, task: Task, choice: Choice) -> Duel | None:
        """A choice and the default in turns, for many rounds; None where it fails now."""
        default, _ = self._default(task)
        other = start(task, choice, self._conditions, self._reference(task))
        try:
            other.answer(BUILD_SECONDS)
            return duel(default, other, FINAL_ROUNDS)
        except TrialFailed:
            return None
        finally:
            default.close()
            other.close()


def _ready(trial: Trial) -> tuple[dict[str, Any] | None, str | None]:
    """What a trial says when it can be measured, or why it cannot."""
    try:
        return trial.answer(BUILD_SECONDS), None
    except TrialFailed as error:
        return None, str(error)


def _broken(task: Task, error: TrialFailed) -> CompileError:
    return CompileError(
        f"the default kernels of {task.name} do not run: {error}",
        where=", ".join(task.nodes),
        hint="please report the model; --tasks leaves it out",
    )
