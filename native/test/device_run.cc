#include "test/device_run.h"

#include <bit>
#include <cstring>

#include "core/quantise.h"

namespace mome::test {
namespace {

constexpr size_t kGuardBytes = 256;
constexpr int kGuard = 0xff;  // NaNs: reading them shows too

}  // namespace

std::shared_ptr<Device> test_device(std::string& why) {
  const DeviceLibrary& library = device_library();
  why = library.reason;
  if (library.api == nullptr || library.api->count(why) == 0) return nullptr;
  std::shared_ptr<Device> device;
  Status status = library.api->open({}, device);
  if (status.ok()) status = device->use();
  why = status.message();
  return status.ok() ? device : nullptr;
}

void* DeviceMover::place(void* host, int64_t count, size_t element, bool halves, bool output) {
  if (!status_.ok()) return nullptr;
  if (const auto found = by_host_.find(host); found != by_host_.end()) {
    pieces_[found->second].output |= output;
    return pieces_[found->second].memory.data();
  }
  Piece piece{host, count, static_cast<size_t>(count) * (halves ? 2 : element), halves, output, {}};
  status_ = piece.memory.reserve(device_, piece.bytes + kGuardBytes);
  if (!status_.ok()) return nullptr;
  std::vector<std::byte> values(piece.bytes + kGuardBytes, static_cast<std::byte>(kGuard));
  const float* floats = static_cast<const float*>(host);
  if (halves) {
    for (int64_t i = 0; i < count; i++) {
      // Callers give values that bfloat16 holds.
      const uint16_t half = static_cast<uint16_t>(std::bit_cast<uint32_t>(floats[i]) >> 16);
      std::memcpy(values.data() + 2 * i, &half, sizeof half);
    }
  } else {
    std::memcpy(values.data(), host, piece.bytes);
  }
  status_ = device_->upload(piece.memory.data(), values.data(), values.size());
  if (status_.ok()) status_ = device_->finish();
  by_host_[host] = pieces_.size();
  pieces_.push_back(std::move(piece));
  return pieces_.back().memory.data();
}

Status DeviceMover::finish() {
  for (const Piece& piece : pieces_) {
    std::vector<std::byte> values(piece.bytes + kGuardBytes);
    MOME_RETURN_IF_ERROR(device_->download(values.data(), piece.memory.data(), values.size()));
    MOME_RETURN_IF_ERROR(device_->finish());
    for (size_t i = 0; i < kGuardBytes; i++) {
      if (values[piece.bytes + i] != static_cast<std::byte>(kGuard))
        return error(Code::internal, "a kernel wrote %zu bytes past an argument", i + 1);
    }
    if (!piece.output) continue;
    float* floats = static_cast<float*>(piece.host);
    for (int64_t i = 0; i < piece.count; i++) {
      if (piece.halves) {
        uint16_t half;
        std::memcpy(&half, values.data() + 2 * i, sizeof half);
        floats[i] = std::bit_cast<float>(static_cast<uint32_t>(half) << 16);
      } else {
        std::memcpy(floats + i, values.data() + 4 * i, sizeof(float));
      }
    }
  }
  return {};
}

}  // namespace mome::test
