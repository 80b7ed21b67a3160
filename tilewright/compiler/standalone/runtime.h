/*
 * What the generated plan of a standalone model and `runtime.c` know of each other.
 *
 * A plan is tables: tensors with the place where they lie, and steps, each a kernel with its
 * arguments. All sizes are numbers of one array, `sizes`, which a generated function fills from the
 * sizes of the open dimensions.
 */
#ifndef TILEWRIGHT_RUNTIME_H
#define TILEWRIGHT_RUNTIME_H

#include <stddef.h>
#include <stdint.h>

#define TILEWRIGHT_HIDDEN __attribute__((visibility("hidden")))
#define TILEWRIGHT_EXPORT __attribute__((visibility("default")))

/* TVMFFIAny and DLTensor (tvm/ffi/c_api.h, dlpack/dlpack.h): how kernels take their arguments. */
struct tilewright_any {
  int32_t type;
  uint32_t zero;
  union {
    int64_t number;
    void *pointer;
  } value;
};
struct tilewright_dltensor {
  void *data;
  int32_t device_type, device_id;
  int32_t rank;
  uint8_t code, bits;
  uint16_t lanes;
  int64_t *shape;
  int64_t *strides;
  uint64_t byte_offset;
};
typedef int (*tilewright_kernel)(void *self, const struct tilewright_any *arguments, int32_t count,
                                 struct tilewright_any *result);
/* Called around each kernel of a model that is watched. */
typedef void (*tilewright_watcher)(const char *kernel, int before,
                                   const struct tilewright_any *arguments, int32_t count);

enum tilewright_place {
  TILEWRIGHT_INPUT,
  TILEWRIGHT_OUTPUT,
  TILEWRIGHT_WEIGHT, /* `offset` bytes into the weights */
  TILEWRIGHT_BLOCK   /* `offset` bytes into block `index` of the workspace */
};

struct tilewright_tensor {
  int32_t place, index;
  int64_t offset;
  int32_t first_size, rank; /* its sizes: numbers `first_size`.. of `shapes` */
  int32_t code, bits;       /* DLPack's type */
};

/* A tensor when `size` is -1, else a number: that size. */
struct tilewright_argument {
  int32_t tensor, size;
};

struct tilewright_step {
  tilewright_kernel kernel;
  const char *name;
  int32_t first, count; /* of the arguments */
};

/* Two sizes that must be the same. */
struct tilewright_check {
  int32_t one, other;
};

struct tilewright_plan {
  const char *name;
  int32_t dims, inputs, outputs, sizes, tensors, shape_count, arguments, steps, blocks, checks;
  const char *const *dim_names;
  const int64_t (*bounds)[2];                   /* of each open dimension */
  const struct tilewright_tensor *tensor;       /* inputs first, then outputs */
  const int32_t *shapes;                        /* numbers of sizes */
  const struct tilewright_argument *argument;
  const struct tilewright_step *step;
  const int32_t *block;                         /* number of the size that says its bytes */
  const struct tilewright_check *check;
  const int32_t *source; /* of each output: the tensor that is copied to it; -1: a kernel writes it */
  const unsigned char *weights;
  void (*fill)(const int64_t *dims, int64_t *sizes);
};

struct tilewright_model;

TILEWRIGHT_HIDDEN struct tilewright_model *tilewright_create(const struct tilewright_plan *plan);
TILEWRIGHT_HIDDEN void tilewright_free(struct tilewright_model *model);
TILEWRIGHT_HIDDEN int tilewright_resize(struct tilewright_model *model, const int64_t *dims);
TILEWRIGHT_HIDDEN int tilewright_run(struct tilewright_model *model, const void *const *inputs,
                                     void *const *outputs);
TILEWRIGHT_HIDDEN void tilewright_use_threads(struct tilewright_model *model, int threads);
TILEWRIGHT_HIDDEN void tilewright_watch(struct tilewright_model *model, tilewright_watcher watcher);
TILEWRIGHT_HIDDEN size_t tilewright_workspace_bytes(const struct tilewright_model *model);
TILEWRIGHT_HIDDEN int tilewright_use_workspace(struct tilewright_model *model, void *memory,
                                               size_t bytes);
TILEWRIGHT_HIDDEN const int64_t *tilewright_shape(const struct tilewright_model *model, int tensor);
TILEWRIGHT_HIDDEN size_t tilewright_bytes(const struct tilewright_model *model, int tensor);
TILEWRIGHT_HIDDEN const char *tilewright_error(const struct tilewright_model *model);

#endif
