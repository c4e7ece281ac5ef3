// OpenBLAS and oneDNN, when the machine has them; loaded at run time, so that nothing depends on them.
#include <dlfcn.h>

#include <cstdlib>

#include "native/bench.h"

namespace mome::bench {
namespace {

template <typename Function>
Function symbol(void* library, const char* name) {
  return reinterpret_cast<Function>(dlsym(library, name));
}

void* open_any(std::initializer_list<const char*> names) {
  for (const char* name : names) {
    if (void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL)) return library;
  }
  return nullptr;
}

void find_openblas(std::vector<BlasPeer>& peers) {
  // Some machines name an old kernel set for the sake of old builds: let the library choose.
  unsetenv("OPENBLAS_CORETYPE");
  unsetenv("OPENBLAS_L2_SIZE");
  void* library = open_any({"libopenblas.so.0", "libopenblas.so"});
  if (library == nullptr) return;
  using Sgemm = void (*)(int, int, int, int, int, int, float, const float*, int, const float*, int, float, float*, int);
  const auto sgemm = symbol<Sgemm>(library, "cblas_sgemm");
  const auto set_threads = symbol<void (*)(int)>(library, "openblas_set_num_threads");
  const auto config = symbol<const char* (*)()>(library, "openblas_get_config");
  const auto core = symbol<const char* (*)()>(library, "openblas_get_corename");
  if (sgemm == nullptr || set_threads == nullptr) return;
  constexpr int kRowMajor = 101, kPlain = 111, kTransposed = 112;
  BlasPeer peer;
  peer.name = "openblas";
  peer.version =
      std::string(config == nullptr ? "" : config()) + (core == nullptr ? "" : std::string(", kernels ") + core());
  peer.sgemm = [sgemm](int64_t rows, int64_t outputs, int64_t inputs, const float* a, const float* weight, float* c) {
    const int m = static_cast<int>(rows), n = static_cast<int>(outputs), k = static_cast<int>(inputs);
    sgemm(kRowMajor, kPlain, kTransposed, m, n, k, 1.0f, a, k, weight, k, 0.0f, c, n);
  };
  peer.set_threads = set_threads;
  peers.push_back(std::move(peer));
}

void find_onednn(std::vector<BlasPeer>& peers) {
  void* library = open_any({"libdnnl.so.2", "libdnnl.so.3", "libdnnl.so"});
  if (library == nullptr) return;
  using Sgemm = int (*)(char, char, int64_t, int64_t, int64_t, float, const float*, int64_t, const float*, int64_t,
                        float, float*, int64_t);
  struct Version {
    int major, minor, patch;
  };
  const auto sgemm = symbol<Sgemm>(library, "dnnl_sgemm");
  const auto version = symbol<const Version* (*)()>(library, "dnnl_version");
  const auto omp_set_threads = symbol<void (*)(int)>(RTLD_DEFAULT, "omp_set_num_threads");
  void* omp = omp_set_threads == nullptr ? open_any({"libgomp.so.1"}) : nullptr;
  const auto set_threads = omp == nullptr ? omp_set_threads : symbol<void (*)(int)>(omp, "omp_set_num_threads");
  if (sgemm == nullptr || set_threads == nullptr) return;
  BlasPeer peer;
  peer.name = "onednn";
  if (version != nullptr)
    peer.version = std::to_string(version()->major) + "." + std::to_string(version()->minor) + "." +
                   std::to_string(version()->patch);
  peer.sgemm = [sgemm](int64_t rows, int64_t outputs, int64_t inputs, const float* a, const float* weight, float* c) {
    sgemm('N', 'T', rows, outputs, inputs, 1.0f, a, inputs, weight, inputs, 0.0f, c, outputs);
  };
  peer.set_threads = set_threads;
  peers.push_back(std::move(peer));
}

}  // namespace

std::vector<BlasPeer> find_blas_peers() {
  std::vector<BlasPeer> peers;
  find_openblas(peers);
  find_onednn(peers);
  return peers;
}

}  // namespace mome::bench
