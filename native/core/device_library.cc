#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "core/device.h"

namespace mome {
namespace {

std::string folder_of_this_code() {
  Dl_info info;
  if (dladdr(reinterpret_cast<const void*>(&device_library), &info) == 0 || info.dli_fname == nullptr) return ".";
  const std::string path = info.dli_fname;
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

void load(DeviceLibrary& library, const std::string& path) {
  if (access(path.c_str(), F_OK) != 0) {
    if (library.reason.empty())
      library.reason = path + " is not there: this was built without CUDA (nvcc was not found, or MOME_CUDA was OFF)";
    return;
  }
  void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    const char* message = dlerror();
    library.reason = message == nullptr ? path : message;
    return;
  }
  using Entry = const DeviceApi* (*)();
  const auto entry = reinterpret_cast<Entry>(dlsym(handle, "mome_device_library"));
  const DeviceApi* api = entry == nullptr ? nullptr : entry();
  if (api == nullptr || std::strcmp(api->build, kDeviceBuild) != 0) {
    library.reason = path + ": expected a library of the same build as the addon";
    return;  // left loaded: its code may have started threads
  }
  api->register_kernels(library.table);
  library.api = api;
  library.path = path;
  library.reason.clear();
}

}  // namespace

const DeviceLibrary& device_library() {
  // Never destroyed: an engine may still be running when the process ends.
  static const DeviceLibrary* const library = [] {
    auto* fresh = new DeviceLibrary();
    if (const char* path = std::getenv("MOME_CUDA_LIBRARY"); path != nullptr && *path != '\0') {
      load(*fresh, path);
      return fresh;
    }
    const std::string folder = folder_of_this_code();
    for (const char* name : {"/mome_cuda.so", "/Release/mome_cuda.so"}) {
      if (fresh->api == nullptr) load(*fresh, folder + name);
    }
    return fresh;
  }();
  return *library;
}

}  // namespace mome
