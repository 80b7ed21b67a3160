// Calls a compiled model from C++: two models side by side, each in a thread of its own.
#include <cstdlib>
#include <iostream>
#include <memory>
#include <thread>
#include <vector>

#include "net.h"

namespace {

struct Release {
  void operator()(net *model) const { net_free(model); }
};
using Model = std::unique_ptr<net, Release>;

// Runs once on zeros; what is not on a 64-byte boundary, as vectors are not, the model copies.
bool run(net *model, const std::vector<int64_t> &dims, std::vector<std::vector<char>> &results) {
  if (net_resize(model, dims.data())) return false;
  std::vector<std::vector<char>> given;
  std::vector<const void *> inputs;
  std::vector<void *> outputs;
  for (int i = 0; i < NET_INPUTS; ++i) given.emplace_back(net_input_bytes(model, i));
  for (int i = 0; i < NET_OUTPUTS; ++i) results.emplace_back(net_output_bytes(model, i));
  for (const auto &input : given) inputs.push_back(input.data());
  for (auto &output : results) outputs.push_back(output.data());
  return net_run(model, inputs.data(), outputs.data()) == 0;
}

}  // namespace

int main(int count, char **words) {
  std::vector<int64_t> dims(NET_DIMS + 1, 1);
  for (int i = 0; i < NET_DIMS && i + 1 < count; ++i) dims[i] = std::atoll(words[i + 1]);
  Model models[] = {Model(net_create()), Model(net_create())};
  std::vector<std::vector<char>> results[2];
  bool good[2] = {};
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i)
    threads.emplace_back([&, i] { good[i] = run(models[i].get(), dims, results[i]); });
  for (auto &thread : threads) thread.join();
  for (int i = 0; i < 2; ++i)
    if (!good[i]) std::cerr << "error: " << net_error(models[i].get()) << "\n";
  if (!good[0] || !good[1]) return 2;
  std::cout << "two models agree: " << (results[0] == results[1] ? "yes" : "no") << "\n";
  return results[0] == results[1] ? EXIT_SUCCESS : EXIT_FAILURE;
}
