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
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from tilewright.analysis.sizes import evaluated
from tilewright.autotune.build import Conditions, built, start
from tilewright.autotune.cost_model import CostModel, Sample, samples
from tilewright.autotune.farm import Built, Farm, open_devices
from tilewright.autotune.progress import Progress, Step
from tilewright.autotune.records import Database, Record, fingerprint, now, versions
from tilewright.autotune.search import Search
from tilewright.autotune.space import Candidate, Space
from tilewright.autotune.tasks import Task, inputs_of, tasks_of
from tilewright.compiler import pipeline, pool
from tilewright.compiler.child import Emit
from tilewright.compiler.compile_job import work_of
from tilewright.compiler.kernel_cache import KernelCache, default_folder
from tilewright.devices.device import DEFAULT, Device
from tilewright.devices.duel import Duel
from tilewright.devices.process import Process, TrialFailed
from tilewright.devices.program import save_arguments
from tilewright.errors import CompileError, OptionError
from tilewright.targets import Target
from tilewright.targets.rules.catalogue import Choice

BATCH = 16
# Faster than this many times the peak is no kernel but an error of the clock or of the kernel.
IMPLAUSIBLE = 1.25
# The best few are compared once more: of many trials, the fastest was lucky too.
FINALISTS, FINAL_ROUNDS = 3, 24
# Trials of other targets say less about this one.
RELATIVE_WEIGHT = 0.3


def session_job(job: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Tune the model of `job`; returns the tasks and the choices that won."""
    return _Session(job, emit).run()


class _Session:
    def __init__(self, job: dict[str, Any], emit: Emit) -> None:
        self._job, self._emit = job, emit
        # In the parent's: it is removed even when this process, or a trial, is killed.
        self._folder = Path(tempfile.mkdtemp(dir=job["folder"]))
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
        object_file = pool.write_object(self._folder, self._work.tools, cache)
        self._conditions = Conditions(self._target, object_file, cache, self._folder)
        devices = open_devices(self._job["devices"], self._target, self._job["threads"])
        self._farm = Farm(devices, lambda text: self._emit("note", text=text))
        self._machine = self._farm.ask(lambda device: device.roofline())
        known, self._others = self._known(tasks)
        running = []
        for number, task in enumerate(tasks):
            self._emit("start", step=f"default {number + 1}/{len(tasks)}")
            running.append(self._begun(task, known.get(task.key, [])))
        self._emit("tasks", rows=[one.row() for one in running])
        self._search(running)
        won = self._final(running)
        self._farm.close()
        return {
            "tasks": [{**one.row(), "steps": [*map(asdict, one.steps)]} for one in running],
            "left": left,
            "won": won,
            "devices": len(devices),
            "trials": self._trials,
            "seconds": time.monotonic() - self._begin,
            "importance": self._model.importance(),
        }

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

    def _known(
        self, tasks: list[Task]
    ) -> tuple[dict[str, list[Record]], dict[tuple, list[Record]]]:
        """Earlier trials of these tasks here, by task; and those of all others, by task."""
        records, problems = self._database.read()
        for problem in problems:
            self._emit("note", text=f"{self._database.path}:{problem.line}: {problem.reason}")
        keys = {task.key for task in tasks}
        own: dict[str, list[Record]] = {}
        others: dict[tuple, list[Record]] = {}
        for record in records:
            here = record.target == self._fingerprint and record.threads == self._job["threads"]
            if record.confirmed:
                continue
            if here and record.spec in keys:
                own.setdefault(record.spec, []).append(record)
            elif record.seconds:
                others.setdefault(record.task, []).append(record)
        return ({}, others) if self._job["fresh"] else (own, others)

    # One task

    def _begun(self, task: Task, known: list[Record]) -> Progress:
        """The default's time, and what is known from earlier sessions."""
        space = Space(task, self._target)
        search = Search(space, self._job["seed"])
        self._place(task).mkdir()
        save_arguments(self._place(task), inputs_of(task, self._job["seed"]))
        said, failure = built(self._start(task, None, DEFAULT))
        if said is None:
            raise _broken(task, str(failure))
        try:
            times = sorted(self._farm.ask(lambda device: device.begin(self._place(task))))
        except TrialFailed as error:
            raise _broken(task, str(error)) from error
        seconds = times[len(times) // 2]
        one = Progress(task, search, seconds, self._least(task, said["flops"]))
        search.told(space.default(), 1.0)
        self._samples[task.key] = [(space.default(), 1.0)]
        for record in known:
            candidate = Candidate(Choice(record.rule, dict(record.knobs)), dict(record.facts))
            ratio = record.median / record.default_seconds if record.seconds else None
            self._told(one, candidate, ratio, record.failure, record.flops)
        return one

    def _least(self, task: Task, flops: int | None) -> float:
        """Seconds that so many operations on the task's arguments take at least."""
        middle = task.sizes[len(task.sizes) // 2]
        tensors = (*task.call.arguments, task.call.result)
        size = sum(4 * math.prod(evaluated(tensor.shape, middle)) for tensor in tensors)
        return self._machine.least_seconds(flops or 0, size)[0]

    def _place(self, task: Task) -> Path:
        """The folder of a task, with its arguments and programs."""
        return self._folder / task.name

    def _start(self, task: Task, choice: Choice | None, name: str) -> Process:
        return start(task, choice, self._conditions, self._place(task) / name)

    def _told(
        self,
        one: Progress,
        candidate: Candidate,
        ratio: float | None,
        failure: str | None,
        flops: int | None,
    ) -> None:
        one.told(candidate, ratio, failure)
        if ratio is None:
            return
        self._samples[one.task.key].append((candidate, ratio))
        if flops is not None:
            one.least = min(one.least, self._least(one.task, flops))

    # The search

    def _search(self, running: list[Progress]) -> None:
        while not self._spent():
            open_tasks = [one for one in running if not one.done(self._job["min_gain"])]
            if not open_tasks:
                return
            one = max(open_tasks, key=lambda task: task.total * task.hope)
            before = one.ratio
            self._learn()
            self._batch(one, one.search.next(self._left(), self._model))
            one.gained(before)

    def _left(self) -> int:
        """How many choices the next batch may have."""
        batch, most = BATCH * len(self._farm.devices), self._job["trials"]
        return batch if most is None else max(0, min(batch, most - self._trials))

    def _spent(self) -> bool:
        return self._late() or self._left() == 0

    def _learn(self) -> None:
        known: list[Sample] = []
        for key, tried in self._samples.items():
            known += samples(key, [(c.facts, ratio) for c, ratio in tried])
        for (spec, target, threads), records in self._others.items():
            weight = 1.0 if target == self._fingerprint else RELATIVE_WEIGHT
            tried = [(record.facts, record.median) for record in records]
            known += samples(f"{spec} {target} {threads}", tried, weight)
        self._model.fit(known)

    def _batch(self, one: Progress, batch: list[Candidate]) -> None:
        """Compile `batch`, some at the same time, and measure each against the default."""
        named = {f"choice{number}": candidate for number, candidate in enumerate(batch)}
        builds: dict[str, Process] = {}
        flops: dict[str, int | None] = {}

        def programs() -> Iterator[Built]:
            for place, name in enumerate(named):
                for ahead in list(named)[place : place + BATCH]:
                    if ahead not in builds:
                        builds[ahead] = self._start(one.task, named[ahead].choice, ahead)
                said, failure = built(builds[name])
                flops[name] = said["flops"] if said else None
                yield name, failure

        try:
            # On boards, building does not disturb what is measured.
            choices = programs() if self._farm.elsewhere else list(programs())
            for name, found in self._farm.duels(self._place(one.task), choices):
                if isinstance(found, Duel):
                    found = self._plausible(found, flops[name])
                self._record(one, named[name], found, flops[name])
                if self._late():
                    break
        finally:
            for process in builds.values():
                process.close()
        for name in named:
            shutil.rmtree(self._place(one.task) / name, ignore_errors=True)

    def _late(self) -> bool:
        budget = self._job["budget"]
        return budget is not None and time.monotonic() - self._begin > budget

    def _plausible(self, found: Duel, flops: int | None) -> Duel | TrialFailed:
        rate = (flops or 0) / found.seconds[1]
        if rate > IMPLAUSIBLE * self._machine.peak:
            return TrialFailed(f"{rate / 1e9:.0f} GF/s are more than this machine can do")
        return found

    def _record(
        self,
        one: Progress,
        candidate: Candidate,
        said: Duel | TrialFailed,
        flops: int | None,
    ) -> None:
        self._trials += 1
        found = said if isinstance(said, Duel) else None
        failure = None if found else str(said)
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
        seconds, ratio = time.monotonic() - self._begin, found.ratio if found else None
        self._told(one, candidate, ratio, failure, flops)
        one.steps.append(Step(seconds, ratio, candidate.score))
        self._emit("trial", row=one.row(), trials=self._trials, seconds=seconds, failure=failure)

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
        place, name = self._place(task), "finalist"
        try:
            if built(self._start(task, choice, name))[0] is None:
                return None
            return self._farm.ask(lambda device: _whole_duel(device, place, name))
        except TrialFailed:
            return None
        finally:
            shutil.rmtree(place / name, ignore_errors=True)


def _whole_duel(device: Device, task: Path, choice: str) -> Duel:
    device.begin(task)
    return device.duel(task, choice, FINAL_ROUNDS)


def _broken(task: Task, reason: str) -> CompileError:
    return CompileError(
        f"the default kernels of {task.name} do not run: {reason}",
        where=", ".join(task.nodes),
        hint="please report the model; --tasks leaves it out",
    )
