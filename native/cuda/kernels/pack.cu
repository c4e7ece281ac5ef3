// The packer: host code, its result is uploaded as it is.
#include "cuda/kernels/pack.h"

#include <bit>
#include <cstring>

#include "cuda/kernels/register.h"

namespace mome::cuda {
namespace {

size_t packed_bytes(int64_t rows, int64_t columns, Form, WeightType type) {
  const size_t matrix =
      type == WeightType::bf16 ? packed_matrix_bytes<bf16>(rows, columns) : packed_matrix_bytes<float>(rows, columns);
  return matrix + static_cast<size_t>(rows) * sizeof(float);
}

uint16_t rounded_bits(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>((bits >> 16) | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

void pack(const float* weight, const float*, int64_t rows, int64_t columns, Form, WeightType type, void* packed,
          ThreadPool& pool) {
  const int64_t pitch = (columns + kRun - 1) / kRun * kRun;
  const bool halves = type == WeightType::bf16;
  std::byte* bytes = static_cast<std::byte*>(packed);
  float* sums = reinterpret_cast<float*>(
      bytes + (halves ? packed_matrix_bytes<bf16>(rows, columns) : packed_matrix_bytes<float>(rows, columns)));
  pool.parallel_for(rows, [&](int64_t row, int) {
    const float* from = weight + row * columns;
    double sum = 0;
    for (int64_t i = 0; i < pitch; i++) {
      const float value = i < columns ? from[i] : 0;
      if (halves) {
        const uint16_t half = rounded_bits(value);
        std::memcpy(bytes + (row * pitch + i) * 2, &half, sizeof half);
        sum += std::bit_cast<float>(static_cast<uint32_t>(half) << 16);
      } else {
        std::memcpy(bytes + (row * pitch + i) * 4, &value, sizeof value);
        sum += value;
      }
    }
    sums[row] = static_cast<float>(sum);
  });
}

}  // namespace

const Packer kPacker = {packed_bytes, pack};

void register_kernels(KernelTable& table) {
#define MOME_REGISTER(name) register_##name(table);
  MOME_CUDA_KERNELS(MOME_REGISTER)
#undef MOME_REGISTER
  table.set_packer(Target::cuda, kPacker);
}

}  // namespace mome::cuda
