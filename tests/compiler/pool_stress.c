/* Launches of every kind from several threads at once; prints the first thing that is wrong.
 *
 * pool_stress CALLERS LAUNCHES: so many threads, and launches of each; with `endless` the process
 * ends while they go on. It stands in for tvm-ffi too: errors are raised per thread, and counted.
 * Results are plain variables, so that a thread sanitizer sees whether a launch orders what its
 * tasks wrote before what its caller reads. */

#include <fenv.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_TASKS = 100, MOST_THREADS = 6, FAILURE = -7 };

struct group {
  void *sync_handle;
  int num_task;
};
typedef int (*task_function)(int, struct group *, void *);
int tilewright_launch(task_function run, void *data, int num_task);
void tilewright_set_threads(int threads);

static void check(int right, const char *what) {
  if (right) return;
  fprintf(stderr, "wrong: %s\n", what);
  exit(1);
}

/* --- tvm-ffi's errors ---------------------------------------------------------------------- */

static _Thread_local int *raised;
static atomic_int objects;

static void set_raised(int *error) {
  if (raised && --*raised == 0) {
    free(raised);
    objects -= 1;
  }
  raised = error;
}

static void raise_new(void) {
  int *error = malloc(sizeof *error);
  *error = 1;
  objects += 1;
  set_raised(error);
}

void TVMFFIErrorMoveFromRaised(void **error) {
  *error = raised;
  raised = NULL;
}

void TVMFFIErrorSetRaised(void *error) {
  *(int *)error += 1;
  set_raised(error);
}

int TVMFFIObjectDecRef(void *error) {
  check(--*(int *)error > 0, "the pool held the last reference");
  return 0;
}

/* --- Jobs ---------------------------------------------------------------------------------- */

struct work {
  int runs[MOST_TASKS];
  int tasks;
  int fails_at;
  int nested;
  int rounding;
};

struct inner {
  pthread_t thread;
  int runs;
};

static int inner_task(int task, struct group *group, void *data) {
  struct inner *inner = data;
  check(task < group->num_task, "an inner task that is not there");
  check(pthread_equal(inner->thread, pthread_self()), "an inner launch left its thread");
  inner->runs += 1;
  return 0;
}

static int outer_task(int task, struct group *group, void *data) {
  struct work *work = data;
  check(task >= 0 && task < group->num_task, "a task that is not there");
  check(group->num_task == work->tasks, "the number of tasks");
  work->runs[task] += 1;
  check(fegetround() == FE_TONEAREST || work->rounding, "a worker rounds as its creator did");
  if (work->nested) {
    struct inner inner = {pthread_self(), 0};
    check(tilewright_launch(inner_task, &inner, 5) == 0 && inner.runs == 5, "an inner launch");
  }
  if (task != work->fails_at) return 0;
  raise_new();
  return FAILURE;
}

static void launch_once(unsigned *seed) {
  struct work work = {{0}, 1 + rand_r(seed) % MOST_TASKS, -1, rand_r(seed) % 4 == 0, 0};
  if (rand_r(seed) % 4 == 0) work.fails_at = rand_r(seed) % work.tasks;
  tilewright_set_threads(1 + rand_r(seed) % MOST_THREADS);
  int code = tilewright_launch(outer_task, &work, work.tasks);
  check(code == (work.fails_at < 0 ? 0 : FAILURE), "what a launch returned");
  check((raised != NULL) == (work.fails_at >= 0), "whether an error is raised");
  set_raised(NULL);
  for (int task = 0; task < work.tasks; ++task) {
    int missing = work.runs[task] == 0 && work.fails_at >= 0 && task != work.fails_at;
    check(work.runs[task] == 1 || missing, "how often a task ran");
  }
}

static int endless, launches;

static void *caller(void *seed) {
  for (int i = 0; endless || i < launches; ++i) launch_once(seed);
  return NULL;
}

/* The first launch creates the workers: they are not to round as this thread does then. */
static void launch_with_another_rounding(void) {
  struct work work = {{0}, MOST_TASKS, -1, 0, 1};
  fesetround(FE_UPWARD);
  tilewright_set_threads(MOST_THREADS);
  tilewright_launch(outer_task, &work, MOST_TASKS);
  check(fegetround() == FE_UPWARD, "the caller's rounding");
  fesetround(FE_TONEAREST);
}

int main(int count, char **words) {
  check(count == 3, "pool_stress CALLERS LAUNCHES");
  int callers = atoi(words[1]);
  endless = strcmp(words[2], "endless") == 0;
  launches = atoi(words[2]);
  launch_with_another_rounding();
  pthread_t threads[64];
  unsigned seeds[64];
  for (int i = 0; i < callers; ++i) {
    seeds[i] = 17 * i;
    check(!pthread_create(&threads[i], NULL, caller, &seeds[i]), "pthread_create");
  }
  if (endless) return usleep(20000);
  for (int i = 0; i < callers; ++i) pthread_join(threads[i], NULL);
  check(objects <= callers + MOST_THREADS, "errors are leaked");
  puts("right");
  return 0;
}
