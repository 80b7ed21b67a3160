/*
 * Runs the model in this folder on its golden inputs:
 *
 *   ./run                  once; prints the outputs
 *   ./run --selftest       checks files, CPU and C library, then the outputs against the golden ones
 *   ./run --bench          how long a run takes
 *   ./run --threads N ...  on so many threads, by default on all CPUs
 *   ./run --runs N ...     so many times before anything is said, for counters and profilers
 *
 * Ends with 0 when all is well, 1 when outputs differ, 2 when the model cannot run here. Written by
 * Tilewright, and an example of how a program calls a model: see main.
 *
 *   cc -std=gnu11 -O2 -pthread run.c files.c -o run -ldl -lm
 */
#include "expected.h"
#include "files.h"
#include "model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PASSED = 0, DIFFERS = 1, REFUSED = 2 };

/* The functions of the library, which is loaded only when it is known to run here. */
static struct {
  struct model *(*create)(void);
  void (*release)(struct model *);
  int (*resize)(struct model *, const int64_t *);
  int (*run)(struct model *, const void *const *, void *const *);
  const char *(*error)(const struct model *);
  size_t (*output_bytes)(const struct model *, int);
  void (*set_threads)(struct model *, int);
} library;

struct arrays {
  void *inputs[MODEL_INPUTS + 1], *outputs[MODEL_OUTPUTS + 1], *golden[MODEL_OUTPUTS + 1];
  size_t bytes[MODEL_OUTPUTS + 1];
};

/* --- Does it run here? -------------------------------------------------------------------- */

static int refuse(const char *what, const char *found, const char *wanted) {
  fprintf(stderr, "error: %s%s\n  expected: %s\n", what, found, wanted);
  return REFUSED;
}

static int check_files(const char *folder) {
  for (size_t i = 0; i < sizeof expected_files / sizeof *expected_files; ++i) {
    char found[65];
    if (sha256_of(folder, expected_files[i].name, found))
      return refuse("a file of the bundle is missing: ", expected_files[i].name, "all its files");
    if (strcmp(found, expected_files[i].sha256) != 0)
      return refuse("a file of the bundle was changed: ", expected_files[i].name,
                    "the file that was compiled; copy the bundle again");
  }
  return PASSED;
}

#ifndef LINKED
#include <dlfcn.h>

static int check_machine(const char *folder) {
  char found[64];
  if (elf_machine(folder, "model.so", found, sizeof found) || strcmp(found, EXPECTED_MACHINE) != 0)
    return refuse("model.so is for another machine: ", found, EXPECTED_MACHINE);
  return PASSED;
}

static int load_library(const char *folder) {
  char path[PATH_BYTES];
  snprintf(path, sizeof path, "%s/model.so", folder);
  void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!handle) return refuse("the library cannot be loaded: ", dlerror(), "the files of one bundle");
  const struct {
    const char *name;
    void *place;
  } functions[] = {{"model_create", &library.create},
                   {"model_free", &library.release},
                   {"model_resize", &library.resize},
                   {"model_run", &library.run},
                   {"model_error", &library.error},
                   {"model_output_bytes", &library.output_bytes},
                   {"model_set_threads", &library.set_threads}};
  for (size_t i = 0; i < sizeof functions / sizeof *functions; ++i) {
    void *found = dlsym(handle, functions[i].name);
    if (!found) return refuse("the library lacks ", functions[i].name, "the files of one bundle");
    memcpy(functions[i].place, &found, sizeof found);
  }
  return PASSED;
}
#else /* The model is part of this program. */
static int check_machine(const char *folder) { return (void)folder, PASSED; }

static int load_library(const char *folder) {
  (void)folder;
  library.create = model_create;
  library.release = model_free;
  library.resize = model_resize;
  library.run = model_run;
  library.error = model_error;
  library.output_bytes = model_output_bytes;
  library.set_threads = model_set_threads;
  return PASSED;
}
#endif

static int check_here(const char *folder) {
  const char *lacks = cpu_lacks();
  int code = check_machine(folder);
  if (code) return code;
  if (lacks) return refuse("this CPU lacks ", lacks, "a CPU like " EXPECTED_CPU);
  if (glibc_is_older())
    return refuse("the C library is older than the model's: glibc ", glibc_here(),
                  "glibc " EXPECTED_GLIBC " or later; compile with --glibc, or --static");
  return PASSED;
}

/* --- Running ------------------------------------------------------------------------------ */

static double milliseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static int compare_times(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* Median of runs that take about `budget` milliseconds, at least three. */
static int measure(struct model *model, struct arrays *arrays, double budget) {
  enum { MOST = 1000 };
  static double times[MOST];
  int count = 0;
  double end = milliseconds() + budget;
  while (count < 3 || (count < MOST && milliseconds() < end)) {
    double begin = milliseconds();
    if (library.run(model, (const void *const *)arrays->inputs, arrays->outputs)) return REFUSED;
    times[count++] = milliseconds() - begin;
  }
  qsort(times, (size_t)count, sizeof *times, compare_times);
  printf("%.3f ms a run (median of %d; fastest %.3f, slowest %.3f)\n", times[count / 2], count,
         times[0], times[count - 1]);
  return PASSED;
}

/* IEEE 754's binary16. */
static double half(uint16_t bits) {
  int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  double size = exponent == 31 ? (mantissa ? NAN : INFINITY)
                : exponent     ? ldexp(1024 + mantissa, exponent - 25)
                               : ldexp(mantissa, -24);
  return bits >> 15 ? -size : size;
}

/* The upper half of a binary32. */
static double bfloat(uint16_t bits) {
  uint32_t whole = (uint32_t)bits << 16;
  float value;
  memcpy(&value, &whole, sizeof value);
  return value;
}

/* Element `i` of an array, as a number. */
static double element(const void *data, const struct expected_output *row, size_t i) {
  switch (row->kind) {
    case 'h': return half(((const uint16_t *)data)[i]);
    case 'b': return bfloat(((const uint16_t *)data)[i]);
    case 'f': return row->width == 8 ? ((const double *)data)[i] : (double)((const float *)data)[i];
    case 'i':
      return row->width == 8   ? (double)((const int64_t *)data)[i]
             : row->width == 4 ? (double)((const int32_t *)data)[i]
             : row->width == 2 ? (double)((const int16_t *)data)[i]
                               : (double)((const int8_t *)data)[i];
    default:
      return row->width == 8   ? (double)((const uint64_t *)data)[i]
             : row->width == 4 ? (double)((const uint32_t *)data)[i]
             : row->width == 2 ? (double)((const uint16_t *)data)[i]
                               : (double)((const uint8_t *)data)[i];
  }
}

/* Largest difference relative to the largest golden value; of what is no float, 0 or infinite. */
static double error_of(const struct expected_output *row, const void *ours, const void *golden,
                       size_t bytes) {
  if (row->kind == 'i' || row->kind == 'u') return memcmp(ours, golden, bytes) ? INFINITY : 0;
  double worst = 0, scale = row->width == 8 ? 2.3e-308 : 1.2e-38;
  for (size_t i = 0; i < bytes / (size_t)row->width; ++i) {
    double a = element(ours, row, i), b = element(golden, row, i);
    if (isfinite(b) && fabs(b) > scale) scale = fabs(b);
    if (a == b || (isnan(a) && isnan(b))) continue;
    if (!isfinite(a) || !isfinite(b)) return INFINITY;
    if (fabs(a - b) > worst) worst = fabs(a - b);
  }
  return worst / scale;
}

static int compare(struct arrays *arrays) {
  int code = PASSED;
  for (int i = 0; i < MODEL_OUTPUTS; ++i) {
    const struct expected_output *row = &expected_outputs[i];
    double error = error_of(row, arrays->outputs[i], arrays->golden[i], arrays->bytes[i]);
    int passed = error <= row->allowed;
    printf("%s: %s, error %.2e of the largest value, %.2e allowed\n", row->name,
           passed ? "passed" : "FAILED", error, row->allowed);
    if (!passed) code = DIFFERS;
  }
  return code;
}

static void show(struct arrays *arrays) {
  for (int i = 0; i < MODEL_OUTPUTS; ++i) {
    const struct expected_output *row = &expected_outputs[i];
    size_t count = arrays->bytes[i] / (size_t)row->width;
    printf("%s: %zu numbers:", row->name, count);
    for (size_t n = 0; n < count && n < 8; ++n) printf(" %.6g", element(arrays->outputs[i], row, n));
    printf(count > 8 ? " ...\n" : "\n");
  }
}

/* Inputs from the bundle's archive, and room for the outputs on a boundary that needs no copy. */
static int prepare(const char *folder, struct model *model, struct arrays *arrays) {
  size_t unused;
  for (int i = 0; i < MODEL_INPUTS; ++i)
    if (!(arrays->inputs[i] = array_in(folder, "golden_inputs.npz", expected_inputs[i], &unused)))
      return refuse("no golden input ", expected_inputs[i], "golden_inputs.npz as it was written");
  if (library.resize(model, expected_dims)) return refuse(library.error(model), "", "other sizes");
  for (int i = 0; i < MODEL_OUTPUTS; ++i) {
    const char *name = expected_outputs[i].name;
    arrays->bytes[i] = library.output_bytes(model, i);
    size_t bytes = 0;
    arrays->golden[i] = array_in(folder, "golden_outputs.npz", name, &bytes);
    if (!arrays->golden[i] || bytes != arrays->bytes[i])
      return refuse("no golden output ", name, "golden_outputs.npz as it was written");
    if (posix_memalign(&arrays->outputs[i], 64, bytes + 64))
      return refuse("no memory for ", name, "more memory");
  }
  return PASSED;
}

int main(int count, char **words) {
  char folder[PATH_BYTES];
  folder_of(words[0], folder, sizeof folder);
  int selftest = 0, bench = 0, threads = 0, runs = 1;
  for (int i = 1; i < count; ++i) {
    if (strcmp(words[i], "--selftest") == 0) selftest = 1;
    else if (strcmp(words[i], "--bench") == 0) bench = 1;
    else if (strcmp(words[i], "--threads") == 0 && i + 1 < count) threads = atoi(words[++i]);
    else if (strcmp(words[i], "--runs") == 0 && i + 1 < count) runs = atoi(words[++i]);
    else return refuse("there is no option ", words[i],
                       "--selftest, --bench, --threads N, --runs N");
  }
  int code = selftest ? check_files(folder) : PASSED;
  if (!code) code = check_here(folder);
  if (!code) code = load_library(folder);
  if (code) return code;

  struct arrays arrays;
  struct model *model = library.create();
  if (!model) return refuse("no memory for the model", "", "more memory");
  library.set_threads(model, threads);
  code = prepare(folder, model, &arrays);
  if (code) return code;
  for (int i = 0; i < runs || i < 1; ++i)
    if (library.run(model, (const void *const *)arrays.inputs, arrays.outputs))
      return refuse(library.error(model), "", "inputs that fit");
  if (selftest) code = compare(&arrays);
  if (!selftest && !bench) show(&arrays);
  if (selftest || bench) measure(model, &arrays, bench ? 5e3 : 500);
  if (selftest) puts(code ? "selftest FAILED" : "selftest passed");
  library.release(model);
  return code;
}
