/* Calls a compiled model from C: make MODEL=FOLDER, with net.h and libnet.so (or .a) in FOLDER.
 *
 *   tilewright compile model.onnx --standalone -o FOLDER/libnet.so
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net.h"

/* Memory on a 64-byte boundary, which the model uses where it is instead of copying it. */
static void *memory(size_t bytes) {
  void *found = NULL;
  if (posix_memalign(&found, 64, bytes + 64)) exit(EXIT_FAILURE);
  return memset(found, 0, bytes);
}

int main(int count, char **words) {
  struct net *model = net_create();
  if (!model) return EXIT_FAILURE;

  /* Open dimensions, such as a batch, have sizes from the command line. */
  int64_t dims[NET_DIMS + 1] = {0};
  for (int i = 0; i < NET_DIMS; ++i) dims[i] = i + 1 < count ? atoll(words[i + 1]) : 1;
  if (net_resize(model, dims)) {
    fprintf(stderr, "error: %s\n", net_error(model));
    return 2;
  }

  const void *inputs[NET_INPUTS + 1];
  void *outputs[NET_OUTPUTS + 1];
  for (int i = 0; i < NET_INPUTS; ++i) inputs[i] = memory(net_input_bytes(model, i));
  for (int i = 0; i < NET_OUTPUTS; ++i) outputs[i] = memory(net_output_bytes(model, i));

  if (net_run(model, inputs, outputs)) {
    fprintf(stderr, "error: %s\n", net_error(model));
    return 2;
  }
  for (int i = 0; i < NET_OUTPUTS; ++i)
    printf("output %d: %zu bytes, its first size is %lld\n", i, net_output_bytes(model, i),
           (long long)net_output_shape(model, i)[0]);

  for (int i = 0; i < NET_INPUTS; ++i) free((void *)inputs[i]);
  for (int i = 0; i < NET_OUTPUTS; ++i) free(outputs[i]);
  net_free(model);
  return EXIT_SUCCESS;
}
