/*
 * Runs the plan of a standalone model: memory and the order of calls, nothing else.
 *
 * One model is for one caller at a time; several models of one plan run side by side. Memory is
 * taken when a model is made or resized, and none while it runs.
 */

#define _POSIX_C_SOURCE 200809L /* posix_memalign */

#include "runtime.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Kernels are compiled for tensors that start on this boundary (TVM's kAllocAlignment). */
enum { ALIGNMENT = 64 };
enum { MESSAGE_BYTES = 512 };
/* kTVMFFIInt, kTVMFFIDLTensorPtr, kDLCPU. */
enum { TYPE_INT = 1, TYPE_DLTENSOR = 7, DEVICE_CPU = 1 };

/* pool.c */
extern void tilewright_set_threads(int threads);

struct tilewright_model {
  const struct tilewright_plan *plan;
  int threads;
  tilewright_watcher watcher;
  bool sized;  /* `sizes` and all that follows from them are those of `dims` */
  bool placed; /* tensors in the workspace know where they lie */
  int64_t *dims, *sizes, *shapes;
  struct tilewright_dltensor *tensors;
  struct tilewright_any *arguments;
  size_t workspace_bytes; /* that these sizes need */
  unsigned char *workspace;
  size_t room; /* bytes of `workspace` */
  bool given;  /* `workspace` is the caller's */
  /* Of inputs and outputs that kernels cannot use where they are; made when they are first met. */
  unsigned char **aligned;
  size_t *aligned_bytes;
  char message[MESSAGE_BYTES];
};

/* --- Errors ------------------------------------------------------------------------------- */

/* What the last kernel that failed said. A task of a launch fails on a worker, so this is one for
 * all threads. */
static pthread_mutex_t message_lock = PTHREAD_MUTEX_INITIALIZER;
static char kernel_message[MESSAGE_BYTES];

/* Kernels call it when what they are given is not what they were compiled for. */
TILEWRIGHT_HIDDEN void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts,
                                                         int32_t count) {
  pthread_mutex_lock(&message_lock);
  size_t used = (size_t)snprintf(kernel_message, MESSAGE_BYTES, "%s: ", kind);
  for (int32_t i = 0; i < count && used < MESSAGE_BYTES; ++i)
    if (parts[i])
      used += (size_t)snprintf(kernel_message + used, MESSAGE_BYTES - used, "%s", parts[i]);
  pthread_mutex_unlock(&message_lock);
}

/* What the pool asks of tvm-ffi, where there is one: to carry an error from thread to thread. */
TILEWRIGHT_HIDDEN void TVMFFIErrorMoveFromRaised(void **error) { *error = NULL; }
TILEWRIGHT_HIDDEN void TVMFFIErrorSetRaised(void *error) { (void)error; }
TILEWRIGHT_HIDDEN int TVMFFIObjectDecRef(void *object) { return object != NULL; }

const char *tilewright_error(const struct tilewright_model *model) {
  return model ? model->message : "no memory for the model";
}

static int fail(struct tilewright_model *model, const char *what) {
  snprintf(model->message, MESSAGE_BYTES, "%s: %s", model->plan->name, what);
  return 1;
}

static int fail_in_kernel(struct tilewright_model *model) {
  pthread_mutex_lock(&message_lock);
  fail(model, kernel_message);
  pthread_mutex_unlock(&message_lock);
  return 1;
}

/* --- Sizes -------------------------------------------------------------------------------- */

static size_t padded(size_t bytes) { return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

static unsigned char *aligned_memory(size_t bytes) {
  void *memory = NULL;
  return posix_memalign(&memory, ALIGNMENT, bytes ? bytes : ALIGNMENT) ? NULL : memory;
}

const int64_t *tilewright_shape(const struct tilewright_model *model, int tensor) {
  return model->tensors[tensor].shape;
}

size_t tilewright_bytes(const struct tilewright_model *model, int tensor) {
  const struct tilewright_dltensor *t = &model->tensors[tensor];
  size_t elements = 1;
  for (int32_t axis = 0; axis < t->rank; ++axis) elements *= (size_t)t->shape[axis];
  return (elements * t->bits + 7) / 8;
}

size_t tilewright_workspace_bytes(const struct tilewright_model *model) {
  return model->workspace_bytes;
}

static int check_dims(struct tilewright_model *model, const int64_t *dims) {
  const struct tilewright_plan *plan = model->plan;
  for (int32_t i = 0; i < plan->dims; ++i) {
    if (plan->bounds[i][0] <= dims[i] && dims[i] <= plan->bounds[i][1]) continue;
    snprintf(model->message, MESSAGE_BYTES, "%s: dimension %s is %lld, and may be %lld..%lld",
             plan->name, plan->dim_names[i], (long long)dims[i], (long long)plan->bounds[i][0],
             (long long)plan->bounds[i][1]);
    return 1;
  }
  return 0;
}

static int check_sizes(struct tilewright_model *model) {
  for (int32_t i = 0; i < model->plan->checks; ++i) {
    int64_t one = model->sizes[model->plan->check[i].one];
    int64_t other = model->sizes[model->plan->check[i].other];
    if (one == other) continue;
    snprintf(model->message, MESSAGE_BYTES,
             "%s: it does not take these sizes: what two of its paths make of them does not fit "
             "(%lld vs. %lld)", model->plan->name, (long long)one, (long long)other);
    return 1;
  }
  return 0;
}

/* Everything that follows from the sizes, but where tensors lie. */
static void fill_tensors(struct tilewright_model *model) {
  const struct tilewright_plan *plan = model->plan;
  for (int32_t i = 0; i < plan->shape_count; ++i)
    model->shapes[i] = model->sizes[plan->shapes[i]];
  for (int32_t i = 0; i < plan->arguments; ++i)
    if (plan->argument[i].size >= 0)
      model->arguments[i].value.number = model->sizes[plan->argument[i].size];
  model->placed = false;
  model->workspace_bytes = 0;
  for (int32_t i = 0; i < plan->blocks; ++i)
    model->workspace_bytes += padded((size_t)model->sizes[plan->block[i]]);
}

int tilewright_resize(struct tilewright_model *model, const int64_t *dims) {
  const struct tilewright_plan *plan = model->plan;
  size_t bytes = sizeof *dims * (size_t)plan->dims;
  if (model->sized && (!bytes || memcmp(model->dims, dims, bytes) == 0)) return 0;
  model->sized = false;
  if (check_dims(model, dims)) return 1;
  plan->fill(dims, model->sizes);
  if (check_sizes(model)) return 1;
  if (bytes) memcpy(model->dims, dims, bytes);
  fill_tensors(model);
  model->sized = true;
  return 0;
}

/* --- Memory ------------------------------------------------------------------------------- */

static void place_tensors(struct tilewright_model *model) {
  const struct tilewright_plan *plan = model->plan;
  for (int32_t i = 0; i < plan->tensors; ++i) {
    const struct tilewright_tensor *row = &plan->tensor[i];
    if (row->place == TILEWRIGHT_WEIGHT)
      model->tensors[i].data = (void *)(uintptr_t)(plan->weights + row->offset);
    if (row->place != TILEWRIGHT_BLOCK) continue;
    size_t start = 0;
    for (int32_t block = 0; block < row->index; ++block)
      start += padded((size_t)model->sizes[plan->block[block]]);
    model->tensors[i].data = model->workspace + start + row->offset;
  }
  model->placed = true;
}

int tilewright_use_workspace(struct tilewright_model *model, void *memory, size_t bytes) {
  if ((uintptr_t)memory % ALIGNMENT) return fail(model, "a workspace starts at a multiple of 64");
  if (!model->given) free(model->workspace);
  model->workspace = memory;
  model->room = bytes;
  model->given = memory != NULL;
  model->placed = false;
  return 0;
}

/* Room for these sizes. */
static int ensure_workspace(struct tilewright_model *model) {
  if (model->workspace && model->room >= model->workspace_bytes) return 0;
  if (model->given) {
    snprintf(model->message, MESSAGE_BYTES, "%s: the workspace has %zu bytes, %zu are needed",
             model->plan->name, model->room, model->workspace_bytes);
    return 1;
  }
  free(model->workspace);
  model->workspace = aligned_memory(model->workspace_bytes);
  model->placed = false;
  model->room = model->workspace ? model->workspace_bytes : 0;
  return model->workspace ? 0 : fail(model, "no memory for the workspace");
}

/* Where kernels find input or output `number` that the caller has at `theirs`. */
static void *usable(struct tilewright_model *model, int32_t number, const void *theirs) {
  size_t bytes = tilewright_bytes(model, number);
  int32_t bits = model->plan->tensor[number].bits;
  uintptr_t element = bits > 8 ? (uintptr_t)bits / 8 : 1;
  if (theirs && (uintptr_t)theirs % element == 0) return (void *)(uintptr_t)theirs;
  if (!model->aligned[number] || model->aligned_bytes[number] < bytes) {
    free(model->aligned[number]);
    model->aligned[number] = aligned_memory(bytes);
    model->aligned_bytes[number] = bytes;
  }
  return model->aligned[number];
}

/* --- Memory that kernels ask for ---------------------------------------------------------- */

/* What is too large for the stack of a task. Blocks are kept: after the first run there are enough.
 * One list for all threads; each block starts with this, padded to the alignment. */
struct block {
  struct block *next;
  size_t bytes;
};
static pthread_mutex_t blocks_lock = PTHREAD_MUTEX_INITIALIZER;
static struct block *free_blocks;

static void *take_memory(int device, int number, uint64_t bytes, int code, int bits) {
  (void)device, (void)number, (void)code, (void)bits;
  pthread_mutex_lock(&blocks_lock);
  struct block **place = &free_blocks;
  while (*place && (*place)->bytes < bytes) place = &(*place)->next;
  struct block *found = *place;
  if (found) *place = found->next;
  pthread_mutex_unlock(&blocks_lock);
  if (!found) {
    found = (struct block *)aligned_memory(ALIGNMENT + bytes);
    if (!found) return NULL;
    found->bytes = bytes;
  }
  return (unsigned char *)found + ALIGNMENT;
}

static int give_memory_back(int device, int number, void *memory) {
  (void)device, (void)number;
  struct block *block = (struct block *)((unsigned char *)memory - ALIGNMENT);
  pthread_mutex_lock(&blocks_lock);
  block->next = free_blocks;
  free_blocks = block;
  pthread_mutex_unlock(&blocks_lock);
  return 0;
}

/* When the library is unloaded. */
__attribute__((destructor)) static void free_all_blocks(void) {
  while (free_blocks) {
    struct block *next = free_blocks->next;
    free(free_blocks);
    free_blocks = next;
  }
}

/* Kernels call through variables of these names (TVM's c_backend_api.h), which their objects define
 * weakly and empty. */
TILEWRIGHT_HIDDEN void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int) = take_memory;
TILEWRIGHT_HIDDEN int (*__TVMBackendFreeWorkspace)(int, int, void *) = give_memory_back;

/* --- Making and running ------------------------------------------------------------------- */

static void describe(struct tilewright_model *model) {
  const struct tilewright_plan *plan = model->plan;
  for (int32_t i = 0; i < plan->tensors; ++i) {
    const struct tilewright_tensor *row = &plan->tensor[i];
    struct tilewright_dltensor *tensor = &model->tensors[i];
    tensor->device_type = DEVICE_CPU;
    tensor->rank = row->rank;
    tensor->code = (uint8_t)row->code;
    tensor->bits = (uint8_t)row->bits;
    tensor->lanes = 1;
    tensor->shape = model->shapes + row->first_size;
  }
  for (int32_t i = 0; i < plan->arguments; ++i) {
    const struct tilewright_argument *row = &plan->argument[i];
    model->arguments[i].type = row->size < 0 ? TYPE_DLTENSOR : TYPE_INT;
    if (row->size < 0) model->arguments[i].value.pointer = &model->tensors[row->tensor];
  }
}

/* Room for `count` of `size` bytes, and never none at all. */
static void *zeroed(int32_t count, size_t size) { return calloc((size_t)count + 1, size); }

struct tilewright_model *tilewright_create(const struct tilewright_plan *plan) {
  struct tilewright_model *model = calloc(1, sizeof *model);
  if (!model) return NULL;
  int32_t ends = plan->inputs + plan->outputs;
  model->plan = plan;
  model->dims = zeroed(plan->dims, sizeof *model->dims);
  model->sizes = zeroed(plan->sizes, sizeof *model->sizes);
  model->shapes = zeroed(plan->shape_count, sizeof *model->shapes);
  model->tensors = zeroed(plan->tensors, sizeof *model->tensors);
  model->arguments = zeroed(plan->arguments, sizeof *model->arguments);
  model->aligned = zeroed(ends, sizeof *model->aligned);
  model->aligned_bytes = zeroed(ends, sizeof *model->aligned_bytes);
  if (!model->dims || !model->sizes || !model->shapes || !model->tensors || !model->arguments ||
      !model->aligned || !model->aligned_bytes) {
    tilewright_free(model);
    return NULL;
  }
  describe(model);
  if (!plan->dims) tilewright_resize(model, NULL);
  return model;
}

void tilewright_free(struct tilewright_model *model) {
  if (!model) return;
  for (int32_t i = 0; model->aligned && i < model->plan->inputs + model->plan->outputs; ++i)
    free(model->aligned[i]);
  if (!model->given) free(model->workspace);
  void *owned[] = {model->dims,      model->sizes,   model->shapes,       model->tensors,
                   model->arguments, model->aligned, model->aligned_bytes};
  for (size_t i = 0; i < sizeof owned / sizeof *owned; ++i) free(owned[i]);
  free(model);
}

void tilewright_use_threads(struct tilewright_model *model, int threads) {
  model->threads = threads;
}

void tilewright_watch(struct tilewright_model *model, tilewright_watcher watcher) {
  model->watcher = watcher;
}

/* Take inputs and outputs in; their copies where kernels cannot use them. */
static int bind(struct tilewright_model *model, const void *const *inputs, void *const *outputs) {
  const struct tilewright_plan *plan = model->plan;
  for (int32_t i = 0; i < plan->inputs + plan->outputs; ++i) {
    bool is_input = i < plan->inputs;
    const void *theirs = is_input ? inputs[i] : outputs[i - plan->inputs];
    size_t bytes = tilewright_bytes(model, i);
    if (!theirs && bytes) return fail(model, "an input or output is NULL");
    void *ours = usable(model, i, theirs);
    if (!ours) return fail(model, "no memory for an input or output whose elements are not aligned");
    if (is_input && ours != theirs && bytes) memcpy(ours, theirs, bytes);
    model->tensors[i].data = ours;
  }
  /* Views of inputs and outputs lie where these do. */
  for (int32_t i = plan->inputs + plan->outputs; i < plan->tensors; ++i) {
    const struct tilewright_tensor *row = &plan->tensor[i];
    if (row->place == TILEWRIGHT_INPUT) model->tensors[i].data = model->tensors[row->index].data;
    if (row->place == TILEWRIGHT_OUTPUT)
      model->tensors[i].data = model->tensors[plan->inputs + row->index].data;
  }
  return 0;
}

static void hand_over(struct tilewright_model *model, void *const *outputs) {
  const struct tilewright_plan *plan = model->plan;
  for (int32_t i = 0; i < plan->outputs; ++i) {
    int32_t number = plan->inputs + i;
    int32_t source = plan->source[i] < 0 ? number : plan->source[i];
    size_t bytes = tilewright_bytes(model, number);
    const void *from = model->tensors[source].data;
    if (bytes && from != outputs[i]) memcpy(outputs[i], from, bytes);
  }
}

static int run_step(struct tilewright_model *model, const struct tilewright_step *step) {
  const struct tilewright_any *arguments = model->arguments + step->first;
  struct tilewright_any result = {0, 0, {0}};
  if (model->watcher) model->watcher(step->name, 1, arguments, step->count);
  if (step->kernel(NULL, arguments, step->count, &result)) return fail_in_kernel(model);
  if (model->watcher) model->watcher(step->name, 0, arguments, step->count);
  return 0;
}

int tilewright_run(struct tilewright_model *model, const void *const *inputs,
                   void *const *outputs) {
  const struct tilewright_plan *plan = model->plan;
  if (!model->sized) return fail(model, "its open dimensions have no sizes: resize it first");
  if (ensure_workspace(model)) return 1;
  if (!model->placed) place_tensors(model);
  if (bind(model, inputs, outputs)) return 1;
  tilewright_set_threads(model->threads);
  for (const struct tilewright_step *step = plan->step; step < plan->step + plan->steps; ++step)
    if (run_step(model, step)) return 1;
  hand_over(model, outputs);
  return 0;
}
