/*
 * The threads of a compiled model: every parallel loop of its kernels runs through `launch`.
 *
 * Kernels call through __TVMBackendParallelLaunch, a variable that their object file defines
 * weakly and that TVM's runtime fills, by name, in a library it loads. Defined here it is hidden:
 * the linker takes this one, and the runtime does not find it.
 *
 * A launch is a job: a function to be called once for each task number. The calling thread opens
 * the job in one of a fixed number of slots, works on it itself, and waits until those who helped
 * have left. Whoever works on a job takes task numbers from a counter until there are no more, so
 * a thread that the system stops takes fewer and holds up the others for one task at most.
 * Workers are shared: they help any job that has room. No job waits for a worker to come.
 *
 * Slots are never freed, so a worker may look at one at any time. `inside` decides who may do
 * more: it counts visitors, and has a flag CLOSED. A visitor adds one first; if the value before
 * was closed or full, it takes the one away again and touches nothing else. The caller closes the
 * job when no task is left, and uses the slot again only when the count was zero after that.
 *
 * Who finds nothing to do spins for a moment, then sleeps. A sleeper announces itself and looks
 * again before it sleeps; who has something for it makes that visible first and then asks for
 * sleepers. Atomic operations are sequentially consistent, which is what makes this pair safe:
 * one of the two sees the other. The lock guards sleeping and the number of workers, nothing else.
 */

#if defined(__linux__)
#define _GNU_SOURCE /* sched_getaffinity */
#endif

#include <fenv.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

/* Tasks per thread. A stopped thread delays a launch by one task; kernels fall into up to sixteen
 * pieces per core (targets/rules/blocking.py), so that more tasks would be empty. */
enum { TASKS_PER_THREAD = 16 };
/* A few times what waking a thread costs; between two kernels of a model lie a few microseconds.
 * With 20 workers fell asleep between small launches; 500 made no whole model measurably faster. */
enum { SPIN_MICROSECONDS = 100 };
/* After so many pauses, under a microsecond, a spinning thread offers its CPU to others. */
enum { PAUSES_PER_YIELD = 32 };
/* Launches at the same time; with more callers than this every CPU is busy anyway, and the others
 * run their jobs alone. One bit of `open_jobs` each. */
enum { MAX_JOBS = 32 };
enum { MAX_THREADS = 1024 };
/* Kernels keep their tiles on the stack, and some systems give a thread 128 kB. */
enum { STACK_BYTES = 8 << 20 };
/* Two lines of 64 bytes: the hardware fetches them in pairs. */
enum { CACHE_LINE = 128 };

/* `inside` of a job: the number of visitors, and flags. */
static const unsigned CLOSED = 1u << 30;
static const unsigned CALLER_SLEEPS = 1u << 29;
static const unsigned COUNT = (1u << 29) - 1;

/* TVM's TVMParallelGroupEnv and FTVMParallelLambda (tvm/runtime/c_backend_api.h). Barriers, which
 * `sync_handle` is for, are not offered: no kernel of ours has one. */
struct group {
  void *sync_handle;
  int32_t num_task;
};
typedef int (*task_function)(int task, struct group *group, void *data);
typedef int (*launch_function)(task_function run, void *data, int num_task);

struct job {
  _Alignas(CACHE_LINE) atomic_int next_task;
  _Alignas(CACHE_LINE) atomic_uint inside;
  atomic_int room; /* helpers at a time */
  atomic_flag taken;
  atomic_int failure; /* what the first failing task returned */
  void *error;        /* and TVM's error object that it raised */
  task_function run;
  void *data;
  struct group group;
};

static struct job jobs[MAX_JOBS];
static atomic_uint open_jobs; /* bit i: jobs[i] may have tasks left; a hint, `inside` decides */
static atomic_int callers;    /* threads in a launch of their own */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t job_opened = PTHREAD_COND_INITIALIZER;
static pthread_cond_t helpers_left = PTHREAD_COND_INITIALIZER;
static pthread_t worker_ids[MAX_THREADS];
static atomic_int workers;
static atomic_int most_workers = MAX_THREADS - 1;
static atomic_int sleepers;
static atomic_int cpus; /* that the workers may use */
static atomic_bool stopping;

/* What `tilewright_set_threads` said on this thread; 0: the process's default. */
static _Thread_local int threads_of_this_thread;
/* Workers read and write it only inside a job: where the library is being unloaded, the first use
 * of a thread's own variable would wait for the loader, which waits for the worker. */
static _Thread_local bool in_a_task;

/* TVM raises errors per thread. Absent where tvm-ffi is: then the return code has to do. */
extern void TVMFFIErrorMoveFromRaised(void **error) __attribute__((weak));
extern void TVMFFIErrorSetRaised(void *error) __attribute__((weak));
extern int TVMFFIObjectDecRef(void *object) __attribute__((weak));

/* --- How many threads --------------------------------------------------------------------- */

static int cpus_in_affinity(void) {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
  long online = sysconf(_SC_NPROCESSORS_ONLN);
  return online < 1 ? 1 : (int)online;
}

/* Reads up to two numbers; returns how many there were, so none of "max". */
static int read_numbers(const char *path, long long *first, long long *second) {
  FILE *file = fopen(path, "re");
  if (!file) return 0;
  int found = fscanf(file, "%lld %lld", first, second);
  fclose(file);
  return found;
}

/* CPUs that the cgroup may use on average, rounded up; `most` when it has no limit. */
static int cpus_in_quota(int most) {
  long long quota = 0, period = 0, unused = 0;
  if (read_numbers("/sys/fs/cgroup/cpu.max", &quota, &period) != 2) {
    read_numbers("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", &quota, &unused);
    read_numbers("/sys/fs/cgroup/cpu/cpu.cfs_period_us", &period, &unused);
  }
  if (quota <= 0 || period <= 0) return most;
  long long whole = (quota + period - 1) / period;
  return whole < most ? (int)whole : most;
}

/* $TILEWRIGHT_THREADS, else the CPUs of affinity and quota (targets/host.py does the same). */
static int default_threads(void) {
  static atomic_int known;
  int count = atomic_load(&known);
  if (count) return count;
  const char *text = getenv("TILEWRIGHT_THREADS");
  char *end = NULL;
  long wanted = text ? strtol(text, &end, 10) : 0;
  if (wanted < 1 || *end) count = cpus_in_quota(cpus_in_affinity());
  else count = wanted < MAX_THREADS ? (int)wanted : MAX_THREADS;
  atomic_store(&known, count);
  return count;
}

/* A launch from inside a task runs on the thread of the task. */
static int threads_of_a_launch(void) {
  if (in_a_task) return 1;
  int count = threads_of_this_thread ? threads_of_this_thread : default_threads();
  return count < MAX_THREADS ? count : MAX_THREADS;
}

/* --- Spinning ----------------------------------------------------------------------------- */

static void pause_briefly(void) {
#if defined(__x86_64__) || defined(__i386__)
  __asm__ volatile("pause");
#elif defined(__aarch64__) || defined(__arm__)
  __asm__ volatile("yield");
#endif
}

static int64_t microseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* Whether a spinning thread leaves a CPU to everyone who works. A caller counts also between two
 * of its launches, when it runs what is not parallel. */
static bool may_spin(void) {
  int calling = atomic_load(&callers);
  return (calling ? calling : 1) + atomic_load(&workers) <= atomic_load(&cpus);
}

/* Wait a moment for `happened(job)`; return whether it did. It yields, because who is waited for
 * may wait for this very CPU: on a busy machine, models ran faster so. */
static bool spin_until(bool (*happened)(struct job *), struct job *job) {
  if (happened(job)) return true;
  if (!may_spin()) return false;
  int64_t end = microseconds() + SPIN_MICROSECONDS;
  do {
    for (int i = 0; i < PAUSES_PER_YIELD; ++i) {
      pause_briefly();
      if (happened(job)) return true;
    }
    sched_yield();
  } while (microseconds() < end);
  return false;
}

/* --- Working on a job --------------------------------------------------------------------- */

static unsigned bit_of(const struct job *job) { return 1u << (job - jobs); }

/* Keep the first failure for the caller, and let nobody start what is left. */
static void fail(struct job *job, int code) {
  int none = 0;
  if (!atomic_compare_exchange_strong(&job->failure, &none, code)) return;
  if (TVMFFIErrorMoveFromRaised) TVMFFIErrorMoveFromRaised(&job->error);
  atomic_store(&job->next_task, job->group.num_task);
}

static void work_on(struct job *job) {
  int task;
  in_a_task = true;
  while ((task = atomic_fetch_add(&job->next_task, 1)) < job->group.num_task) {
    int code = job->run(task, &job->group, job->data);
    if (code) fail(job, code);
  }
  in_a_task = false;
  if (atomic_load(&open_jobs) & bit_of(job)) atomic_fetch_and(&open_jobs, ~bit_of(job));
}

/* --- Workers ------------------------------------------------------------------------------ */

static struct job *job_with_room(void) {
  unsigned left = atomic_load(&open_jobs);
  for (struct job *job = jobs; left; ++job, left >>= 1) {
    unsigned inside = left & 1 ? atomic_load(&job->inside) : CLOSED;
    if (!(inside & CLOSED) && (int)(inside & COUNT) < atomic_load(&job->room)) return job;
  }
  return NULL;
}

static bool something_to_do(struct job *unused) {
  (void)unused;
  return atomic_load(&stopping) || job_with_room();
}

static void help(struct job *job) {
  unsigned before = atomic_fetch_add(&job->inside, 1);
  if (!(before & CLOSED) && (int)(before & COUNT) < atomic_load(&job->room)) work_on(job);
  unsigned after = atomic_fetch_sub(&job->inside, 1) - 1;
  if (after != (CLOSED | CALLER_SLEEPS)) return;
  /* The caller is between its look and its sleep, or asleep: with the lock it is the latter. */
  pthread_mutex_lock(&lock);
  pthread_mutex_unlock(&lock);
  pthread_cond_broadcast(&helpers_left);
}

static void sleep_until_something_to_do(void) {
  pthread_mutex_lock(&lock);
  atomic_fetch_add(&sleepers, 1);
  while (!something_to_do(NULL)) pthread_cond_wait(&job_opened, &lock);
  atomic_fetch_sub(&sleepers, 1);
  pthread_mutex_unlock(&lock);
}

static void *worker(void *unused) {
  /* A thread starts with the rounding and subnormals of the one that made it: not here, where
   * later callers may have others. */
  fesetenv(FE_DFL_ENV);
  while (!atomic_load(&stopping)) {
    struct job *job = job_with_room();
    if (job) help(job);
    else if (!spin_until(something_to_do, NULL)) sleep_until_something_to_do();
  }
  return unused;
}

/* --- Starting and ending ------------------------------------------------------------------ */

/* At exit, and when the library is unloaded: no worker may run in code that goes away. */
static void stop_workers(void) {
  pthread_mutex_lock(&lock);
  atomic_store(&stopping, true);
  pthread_mutex_unlock(&lock);
  pthread_cond_broadcast(&job_opened);
  for (int i = 0; i < atomic_load(&workers); ++i) pthread_join(worker_ids[i], NULL);
  atomic_store(&workers, 0);
}

static void before_fork(void) { pthread_mutex_lock(&lock); }

static void after_fork_in_parent(void) { pthread_mutex_unlock(&lock); }

/* A child has the thread that forked and no other: no workers, and nobody's jobs. */
static void after_fork_in_child(void) {
  atomic_store(&open_jobs, 0);
  atomic_store(&callers, 0);
  atomic_store(&workers, 0);
  atomic_store(&sleepers, 0);
  for (struct job *job = jobs; job < jobs + MAX_JOBS; ++job) {
    atomic_store(&job->inside, CLOSED);
    atomic_flag_clear(&job->taken);
  }
  pthread_cond_init(&job_opened, NULL);
  pthread_cond_init(&helpers_left, NULL);
  pthread_mutex_unlock(&lock);
}

/* Once, with the lock. `atexit` and not a destructor: at exit this is to come before the end of
 * what TVM's runtime keeps for each thread, and handlers run in the reverse order of their
 * registration. In a library they run when it is unloaded, too. */
static void prepare(void) {
  static bool prepared;
  if (prepared) return;
  prepared = true;
  atexit(stop_workers);
  pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

static void create_workers(int wanted) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, STACK_BYTES);
  for (int i = atomic_load(&workers); i < wanted; ++i) {
    if (pthread_create(&worker_ids[i], &attributes, worker, NULL)) {
      atomic_store(&most_workers, i); /* The system has no more: do not ask at every launch. */
      break;
    }
    atomic_store(&workers, i + 1);
  }
  pthread_attr_destroy(&attributes);
}

/* Have at least `wanted` workers, or as many as there may be. Signals are for other threads. */
static void ensure_workers(int wanted) {
  if (wanted > atomic_load(&most_workers)) wanted = atomic_load(&most_workers);
  if (atomic_load(&workers) >= wanted || atomic_load(&stopping)) return;
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_mutex_lock(&lock);
  prepare();
  atomic_store(&cpus, cpus_in_quota(cpus_in_affinity()));
  if (!atomic_load(&stopping)) create_workers(wanted);
  pthread_mutex_unlock(&lock);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* --- A launch ----------------------------------------------------------------------------- */

/* A slot, closed; NULL when all are in use. */
static struct job *take_slot(void) {
  for (struct job *job = jobs; job < jobs + MAX_JOBS; ++job)
    if (!atomic_flag_test_and_set(&job->taken)) return job;
  return NULL;
}

static void open_job(struct job *job, task_function run, void *data, int tasks, int helpers) {
  job->run = run;
  job->data = data;
  job->group = (struct group){NULL, tasks};
  job->error = NULL;
  atomic_store(&job->failure, 0);
  atomic_store(&job->next_task, 0);
  atomic_store(&job->room, helpers);
  atomic_fetch_and(&job->inside, ~(CLOSED | CALLER_SLEEPS));
  atomic_fetch_or(&open_jobs, bit_of(job));
}

/* Wake as many sleepers as may help; none when every CPU has a caller of its own to run. */
static void wake_helpers(int helpers) {
  int asleep = atomic_load(&sleepers);
  if (!asleep || atomic_load(&callers) >= atomic_load(&cpus)) return;
  pthread_mutex_lock(&lock); /* Who has announced itself sleeps now, or saw the job. */
  pthread_mutex_unlock(&lock);
  if (helpers >= asleep) pthread_cond_broadcast(&job_opened);
  else while (helpers--) pthread_cond_signal(&job_opened);
}

static bool is_empty(struct job *job) { return !(atomic_load(&job->inside) & COUNT); }

static void wait_for_helpers(struct job *job) {
  atomic_fetch_or(&job->inside, CLOSED);
  if (spin_until(is_empty, job)) return;
  atomic_fetch_or(&job->inside, CALLER_SLEEPS);
  pthread_mutex_lock(&lock);
  while (!is_empty(job)) pthread_cond_wait(&helpers_left, &lock);
  pthread_mutex_unlock(&lock);
}

/* The code of the first task that failed, its error raised again on the calling thread. */
static int result_of(struct job *job) {
  if (job->error) {
    TVMFFIErrorSetRaised(job->error);
    TVMFFIObjectDecRef(job->error);
  }
  return atomic_load(&job->failure);
}

static int launch_alone(task_function run, void *data, int tasks) {
  struct group group = {NULL, tasks};
  bool inner = in_a_task;
  int code = 0;
  in_a_task = true;
  for (int task = 0; task < tasks && !code; ++task) code = run(task, &group, data);
  in_a_task = inner;
  return code;
}

/* Call `run` for every task below `num_task`; 0 leaves their number to us. */
EXPORT int tilewright_launch(task_function run, void *data, int num_task) {
  int threads = threads_of_a_launch();
  int tasks = num_task ? num_task : threads > 1 ? TASKS_PER_THREAD * threads : 1;
  struct job *job = threads > 1 && tasks > 1 ? take_slot() : NULL;
  if (!job) return launch_alone(run, data, tasks);
  int helpers = (threads < tasks ? threads : tasks) - 1;
  ensure_workers(helpers);
  atomic_fetch_add(&callers, 1);
  open_job(job, run, data, tasks, helpers);
  wake_helpers(helpers);
  work_on(job);
  wait_for_helpers(job);
  atomic_fetch_sub(&callers, 1);
  int code = result_of(job);
  atomic_flag_clear(&job->taken);
  return code;
}

__attribute__((visibility("hidden"))) launch_function __TVMBackendParallelLaunch =
    tilewright_launch;

/* Threads of every launch that the calling thread makes from now on, itself included; less than 1:
 * the default. */
EXPORT void tilewright_set_threads(int threads) {
  threads_of_this_thread = threads > 0 ? threads : 0;
}

/* Run this library's parallel loops on another one's workers: `launch` is the other's
 * `tilewright_launch`, and its `tilewright_set_threads` counts from now on. Call it before the
 * first run; the other library has to stay loaded. */
EXPORT void tilewright_share_workers(launch_function launch) {
  __TVMBackendParallelLaunch = launch;
}

/* 64 bits that look like chance, others at every call and in every process: keys of random numbers
 * (compiler/importer/convert/drawing.py). The generator is SplitMix64 by Steele, Lea and Flood. */
__attribute__((visibility("hidden"))) uint64_t tilewright_random_bits(void) {
  static atomic_ullong calls;
  static atomic_ullong begun;
  unsigned long long start = atomic_load(&begun);
  if (!start) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    unsigned long long first = ((unsigned long long)now.tv_sec * 1000000000u + now.tv_nsec) | 1;
    start = atomic_compare_exchange_strong(&begun, &start, first) ? first : start;
  }
  /* A process that is forked goes on with the same count. */
  start ^= (unsigned long long)getpid() << 40;
  uint64_t z = start + (atomic_fetch_add(&calls, 1) + 1) * 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}
