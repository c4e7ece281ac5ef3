#include "core/ops/expert_ffn.h"

#include <algorithm>
#include <string>

#include "core/ops/spec.h"

namespace mome {
namespace {

// `bounds_on_device`: a device reads the row ranges from its own memory, so they are not decoded.
template <typename Args>
void decode_experts(Decoder& d, Args& a, bool bounds_on_device) {
  a.rows = d.rows("x");
  a.width = d.columns("x");
  a.eps = static_cast<float>(d.number("eps", 1e-6));
  a.x = d.tensor("x", a.rows * a.width);
  a.gamma = d.tensor("gamma", a.width, true);
  a.row_scale = d.tensor("row_scale", a.rows, true);
  a.experts = 0;
  a.hidden = 0;
  int64_t covered = 0;
  for (int e = 0; e < kMaxExperts; e++) {
    const std::string i = std::to_string(e);
    if (!d.has("fc1_" + i)) break;
    ExpertForward& expert = a.expert[e];
    if (e == 0) a.hidden = d.rows("fc1_0");
    if (!bounds_on_device) {
      expert.begin = d.integer("begin" + i);
      expert.end = d.integer("end" + i);
      d.expect(expert.begin == covered && expert.end >= expert.begin, "expected row ranges in order without gaps");
      covered = expert.end;
    }
    expert.norm_gamma = d.tensor("norm_gamma_" + i, a.width);
    expert.norm_beta = d.tensor("norm_beta_" + i, a.width);
    expert.fc1 = d.matrix("fc1_" + i, a.hidden, a.width);
    expert.fc1_bias = d.tensor("fc1_bias_" + i, a.hidden);
    expert.fc2 = d.matrix("fc2_" + i, a.width, a.hidden);
    expert.fc2_bias = d.tensor("fc2_bias_" + i, a.width);
    a.experts++;
  }
  d.expect(a.experts > 0 && (bounds_on_device || covered == a.rows), "expected row ranges that cover all rows");
}

void decode_forward(Decoder& d, ExpertFfnForward& a) {
  a.bounds = d.device_numbers();
  decode_experts(d, a, a.bounds != nullptr);
  a.out = d.output("out", a.rows * a.width);
  a.pre_activation = d.output("pre_activation", a.rows * a.hidden, true);
  d.expect(a.pre_activation == nullptr || a.experts == 0 || a.expert[0].fc1.type != WeightType::i8,
           "expected weights in float32 or bfloat16 to save activations");
}

void decode_backward(Decoder& d, ExpertFfnBackward& a) {
  decode_experts(d, a, false);
  a.pre_activation = d.tensor("pre_activation", a.rows * a.hidden);
  a.dout = d.tensor("dout", a.rows * a.width);
  a.dx = d.output("dx", a.rows * a.width);
  a.dgamma = d.gradient("dgamma", a.width);
  for (int e = 0; e < a.experts; e++) {
    const std::string i = std::to_string(e);
    a.gradient[e].norm_gamma = d.gradient("dnorm_gamma_" + i, a.width);
    a.gradient[e].norm_beta = d.gradient("dnorm_beta_" + i, a.width);
    a.gradient[e].fc1 = d.gradient("dfc1_" + i, a.hidden * a.width);
    a.gradient[e].fc1_bias = d.gradient("dfc1_bias_" + i, a.hidden);
    a.gradient[e].fc2 = d.gradient("dfc2_" + i, a.hidden * a.width);
    a.gradient[e].fc2_bias = d.gradient("dfc2_bias_" + i, a.width);
  }
}

// Finds the row range of expert `e`; fails if the range is incomplete. Behind the last expert, `begin` and `end` become
// null.
Status find_range(const Instruction& instruction, int e, const Operand*& begin, const Operand*& end) {
  const std::string i = std::to_string(e);
  begin = instruction.find("begin" + i);
  end = instruction.find("end" + i);
  if ((instruction.find("fc1_" + i) != nullptr) != (begin != nullptr && end != nullptr)) {
    return error(Code::invalid_argument, "expert_ffn: expected a row range for every expert");
  }
  if (begin == nullptr) return {};
  if (begin->kind != Operand::Kind::number || end->kind != Operand::Kind::number) {
    return error(Code::invalid_argument, "expert_ffn: expected row ranges as numbers");
  }
  return {};
}

// ExpertFfnForward::bounds of an instruction. Experts that are not there get empty ranges.
Status read_bounds(const Instruction& instruction, std::span<const int64_t> dims, const ArenaPlan& plan,
                   int32_t* bounds) {
  const auto number = [&](const Operand& operand) {
    return operand.dim >= 0 ? dims[operand.dim] : static_cast<int64_t>(operand.number);
  };
  const Operand* out = instruction.find("out");
  if (out == nullptr || out->kind != Operand::Kind::buffer)
    return error(Code::invalid_argument, "expert_ffn: expected a buffer as out");
  const std::vector<int64_t>& shape = plan.shapes[out->index];
  const int64_t rows = shape.empty() ? 1 : shape[0];
  int64_t last = 0;
  int experts = 0;
  for (; experts < kMaxExperts; experts++) {
    const Operand *begin = nullptr, *end = nullptr;
    MOME_RETURN_IF_ERROR(find_range(instruction, experts, begin, end));
    if (begin == nullptr) break;
    const int64_t first = number(*begin);
    if (experts == 0) bounds[0] = static_cast<int32_t>(last = first);
    if (first != last || number(*end) < last || first < 0 || number(*end) > rows || rows > INT32_MAX) {
      return error(Code::invalid_shape, "expert_ffn: expected row ranges in order without gaps inside %lld rows",
                   static_cast<long long>(rows));
    }
    bounds[experts + 1] = static_cast<int32_t>(last = number(*end));
  }
  if (experts == 0) return error(Code::invalid_argument, "expert_ffn: expected a row range");
  std::fill(bounds + experts + 1, bounds + kExpertBounds, static_cast<int32_t>(last));
  return {};
}

}  // namespace

constinit const OpSpec expert_ffn_op = {
    .name = ExpertFfnForward::kOp,
    .forward = decode_with<decode_forward>,
    .backward = decode_with<decode_backward>,
    .matrices = {"fc1_#", "fc2_#"},
    .rows = {"x"},
    .results = {"out", "pre_activation"},
    .backward_results = {"dx"},
    .int8_matrices = true,
    .device_rows = DeviceRows::encoder,
    .float32_results = {"pre_activation"},
    .device_numbers = {.keys = {"begin#", "end#"}, .count = kExpertBounds, .read = read_bounds},
};

}  // namespace mome
