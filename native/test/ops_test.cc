// The specs of ops: a toy op is added as docs/adding-an-op.md says, runs in a program on every target, and is gone
// again; specs that leave something out are refused with a code.
#include <cstdio>
#include <set>
#include <string>
#include <vector>

#include "core/device_types.h"
#include "core/engine.h"
#include "core/ops/common.h"
#include "core/ops/table.h"
#include "test/expect.h"

namespace mome {
namespace {

using test::expect;

// Step 1 of the document: argument structs. y = scale * x, per column.
struct ScaleRowsForward {
  static constexpr const char* kOp = "scale_rows";
  static constexpr Direction kDirection = Direction::forward;
  int64_t rows, width;
  const float* x;      // [rows, width]
  const float* scale;  // [width]
  float* y;            // [rows, width]
};
struct ScaleRowsBackward {
  static constexpr const char* kOp = ScaleRowsForward::kOp;
  static constexpr Direction kDirection = Direction::backward;
  int64_t rows, width;
  const float* x;
  const float* scale;
  const float* dy;  // [rows, width]
  float* dx;        // [rows, width]
  float* dscale;    // [width] +=, or null
};

// Step 2: decoding and the spec.
void decode_forward(Decoder& d, ScaleRowsForward& a) {
  a.rows = d.rows("x");
  a.width = d.columns("x");
  a.x = d.tensor("x", a.rows * a.width);
  a.scale = d.tensor("scale", a.width);
  a.y = d.output("y", a.rows * a.width);
}

void decode_backward(Decoder& d, ScaleRowsBackward& a) {
  a.rows = d.rows("x");
  a.width = d.columns("x");
  a.x = d.tensor("x", a.rows * a.width);
  a.scale = d.tensor("scale", a.width);
  a.dy = d.tensor("dy", a.rows * a.width);
  a.dx = d.output("dx", a.rows * a.width);
  a.dscale = d.gradient("dscale", a.width);
}

constinit const OpSpec scale_rows_op = {
    .name = ScaleRowsForward::kOp,
    .forward = decode_with<decode_forward>,
    .backward = decode_with<decode_backward>,
    .rows = {"x"},
    .results = {"y"},
    .backward_results = {"dx"},
    .device_rows = DeviceRows::same,
};

// Step 3: kernels.
Status forward(const ScaleRowsForward& a, OpContext&) {
  for (int64_t i = 0; i < a.rows * a.width; i++) a.y[i] = a.scale[i % a.width] * a.x[i];
  return {};
}

Status backward(const ScaleRowsBackward& a, OpContext&) {
  for (int64_t i = 0; i < a.rows * a.width; i++) {
    a.dx[i] = a.scale[i % a.width] * a.dy[i];
    if (a.dscale != nullptr) a.dscale[i % a.width] += a.x[i] * a.dy[i];
  }
  return {};
}

// The ops of the project and one more, with its kernels on every processor target.
struct Extended {
  std::vector<const OpSpec*> ops{op_table().begin(), op_table().end()};
  KernelTable kernels = kernel_table(Target::ref);

  template <typename Args, Status (*kRun)(const Args&, OpContext&)>
  void add_kernel() {
    for (const Target target : kCpuTargets) kernels.add<Args, kRun>(target);
  }
  Status compile(const std::string& text, WeightStore& weights, Target target,
                 std::shared_ptr<CompiledProgram>& program) const {
    return CompiledProgram::create(text, weights, target, ops, kernels, program);
  }
};

const std::string kProgram =
    "mome-program 1\n"
    "dims rows\n"
    "input x f32 rows*2\n"
    "param scale 2\n"
    "buffer 0 f32 rows*2 live 0 2\n"
    "buffer 1 f32 rows*2 live 1 2\n"
    "output y 0\n"
    "output dx 1\n"
    "op scale_rows.forward x=$x scale=@scale y=%0\n"
    "op scale_rows.backward x=$x scale=@scale dy=%0 dx=%1 dscale=^scale\n";

void a_toy_op() {
  Extended extended;
  extended.ops.push_back(&scale_rows_op);
  extended.add_kernel<ScaleRowsForward, forward>();
  extended.add_kernel<ScaleRowsBackward, backward>();
  for (const Target target : kCpuTargets) {
    if (!target_supported(target)) continue;
    WeightStore weights;
    const float scale[2] = {2, -3};
    expect(weights.add("scale", {2}, scale, 2).ok() && weights.enable_training().ok(), "weights are taken");
    std::shared_ptr<CompiledProgram> program;
    const Status compiled = extended.compile(kProgram, weights, target, program);
    expect(compiled.ok(), "a program may call an op that was added: " + compiled.message());
    if (!program) continue;
    Engine engine(1, target);
    const std::vector<float> x = {1, 2, -5, 0.5f};
    RunRequest request;
    request.dims = {2};
    request.inputs = {{ElementType::f32, x.data(), x.size()}};
    RunResult result;
    for (int run = 1; run <= 2; run++) {
      expect(engine.run(*program, weights, request, result).ok(), "it runs");
      expect(result.outputs.size() == 2 && result.outputs[0] == std::vector<float>({2, -6, -10, -1.5f}),
             "its results are right");
      expect(result.outputs.size() == 2 && result.outputs[1] == std::vector<float>({4, 18, -20, 4.5f}),
             "its gradients are right");
      const float* dscale = weights.at(0).training.gradient.floats();
      expect(dscale[0] == run * 52.0f && dscale[1] == run * -12.75f, "gradients of its parameters accumulate");
    }
  }
  WeightStore weights;
  const float scale[2] = {1, 1};
  std::shared_ptr<CompiledProgram> program;
  expect(weights.add("scale", {2}, scale, 2).ok(), "weights are taken");
  expect(CompiledProgram::create(kProgram, weights, Target::ref, program).code() == Code::invalid_argument,
         "outside that table nobody knows the op");
}

// An op whose kernel multiplies by a matrix, as a spec may describe it rightly or wrongly.
struct MultiplyForward {
  static constexpr const char* kOp = "multiply";
  static constexpr Direction kDirection = Direction::forward;
  int64_t rows;
  const float* x;
  Matrix weight;
  float* y;
};

void decode_multiply(Decoder& d, MultiplyForward& a) {
  a.rows = d.rows("x");
  a.x = d.tensor("x", a.rows * 2);
  a.weight = d.matrix("weight", 3, 2);
  a.y = d.output("y", a.rows * 3);
}

int multiplied = 0;
Status multiply(const MultiplyForward&, OpContext&) {
  multiplied++;
  return {};
}

constexpr OpSpec kMultiply = {.name = MultiplyForward::kOp,
                              .forward = decode_with<decode_multiply>,
                              .matrices = {"weight"},
                              .rows = {"x"},
                              .results = {"y"}};

const std::string kMultiplyProgram =
    "mome-program 1\n"
    "input x f32 4*2\n"
    "param w 3*2\n"
    "buffer 0 f32 4*3 live 0 1\n"
    "output y 0\n"
    "op multiply.forward x=$x weight=@w y=%0\n";

// What a run says of an op with this spec.
Status run_with(const OpSpec& spec, Target target) {
  Extended extended;
  extended.ops.push_back(&spec);
  extended.add_kernel<MultiplyForward, multiply>();
  WeightStore weights;
  const float values[6] = {};
  MOME_RETURN_IF_ERROR(weights.add("w", {3, 2}, values, 6));
  std::shared_ptr<CompiledProgram> program;
  MOME_RETURN_IF_ERROR(extended.compile(kMultiplyProgram, weights, target, program));
  Engine engine(1, target);
  const std::vector<float> x(8);
  RunRequest request;
  request.inputs = {{ElementType::f32, x.data(), x.size()}};
  RunResult result;
  return engine.run(*program, weights, request, result);
}

void specs_that_leave_something_out() {
  OpSpec without_matrix = kMultiply, without_result = kMultiply, without_decoder = kMultiply;
  without_matrix.matrices = {};
  without_result.results = {};
  without_decoder.forward = nullptr;
  for (const Target target : kCpuTargets) {
    if (!target_supported(target)) continue;
    const std::string where = std::string(" on ") + std::string(target_name(target));
    expect(run_with(kMultiply, target).ok(), "the whole spec runs" + where);
    const int before = multiplied;
    const Status matrix = run_with(without_matrix, target), result = run_with(without_result, target);
    expect(matrix.code() == Code::internal && matrix.message().find("multiply.forward: weight: ") == 0,
           "a matrix that the spec does not name is refused" + where);
    expect(result.code() == Code::internal && result.message().find("multiply.forward: y: ") == 0,
           "a result that the spec does not name is refused" + where);
    expect(run_with(without_decoder, target).code() == Code::unsupported,
           "an op without a decoder is no part of a program" + where);
    expect(multiplied == before, "and no kernel ran" + where);
  }
}

// A matrix that nobody packed, where the target's kernels read packed ones.
void unpacked_matrices() {
  const OpSpec* ops[] = {&kMultiply};
  std::unique_ptr<Program> program;
  expect(Program::parse(kMultiplyProgram, ops, program).ok(), "the program is read");
  if (!program) return;
  KernelTable kernels;
  kernels.add<MultiplyForward, multiply>(Target::ref);
  WeightStore weights;
  const float values[6] = {};
  expect(weights.add("w", {3, 2}, values, 6).ok(), "weights are taken");
  const std::vector<int> parameters = {0};
  std::vector<float> x(8), y(12);
  const std::vector<Located> inputs = {{x.data(), nullptr, ElementType::f32, {4, 2}}},
                             buffers = {{y.data(), nullptr, ElementType::f32, {4, 3}}};
  Call call;
  ThreadPool pool(1);
  for (const Target target : kCpuTargets) {
    const bool packed = kernel_table(target).packer(target) != nullptr;
    if (!packed || !target_supported(target)) continue;
    WeightStore fresh;
    expect(fresh.add("w", {3, 2}, values, 6).ok(), "weights are taken");
    const Binding binding{*program, fresh, target, parameters, {}, {}, inputs, buffers, packed};
    expect(decode(program->instructions[0], kernels.kernels()[0], binding, call).code() == Code::internal,
           "a weight that was not packed is refused");
    expect(fresh.pack(0, Form::packed, target, WeightType::f32, pool).ok(), "the weight is packed");
    expect(decode(program->instructions[0], kernels.kernels()[0], binding, call).ok(), "and then taken");
  }
  const Binding plain{*program, weights, Target::ref, parameters, {}, {}, inputs, buffers, false};
  expect(decode(program->instructions[0], kernels.kernels()[0], plain, call).ok(),
         "a target without a packer reads it plain");
}

// Values of a program whose type on a device nothing says.
void rows_on_devices() {
  OpSpec without_rows = scale_rows_op;
  without_rows.rows = {};
  const std::string text =
      "mome-program 1\ninput x f32 4*2\nparam scale 2\nbuffer 0 f32 4*2 live 0 1\nbuffer 1 f32 4*2 live 1 2\noutput y "
      "1\n"
      "op scale_rows.forward x=$x scale=@scale y=%0\nop scale_rows.forward x=%0 scale=@scale y=%1\n";
  const auto infer = [&](const OpSpec& spec) -> Status {
    const OpSpec* ops[] = {&spec};
    std::unique_ptr<Program> program;
    MOME_RETURN_IF_ERROR(Program::parse(text, ops, program));
    std::vector<WeightType> types, rows;
    return infer_types(*program, WeightType::bf16, types, rows);
  };
  expect(infer(scale_rows_op).ok(), "rows that the spec names have a type");
  expect(infer(without_rows).code() == Code::unsupported, "rows that it does not name are refused");
}

void keys() {
  constexpr Keys some = {"weight", "fc1_#"};
  expect(some.has("weight") && some.has("fc1_0") && some.has("fc1_9"), "keys are found");
  expect(!some.has("weight_0") && !some.has("fc1_") && !some.has("fc1_bias_0") && !some.has("fc1_x") &&
             !some.has("fc1_10") && !some.has(""),
         "other keys are not");
  expect(!Keys().has("") && Keys().empty(), "no keys have none");
}

void the_table() {
  std::set<std::string_view> names;
  for (const OpSpec* op : op_table()) {
    expect(names.insert(op->name).second && find_op(op_table(), op->name) == op,
           std::string(op->name) + " stands once in the table");
    expect((op->forward != nullptr) == !op->results.empty(),
           std::string(op->name) + " has results where a program can call it");
    for (const std::string_view result : op->float32_results)
      expect(op->results.has(result), std::string(op->name) + ": float32 results are results");
    for (const std::string_view row : op->rows)
      expect(!op->results.has(row), std::string(op->name) + ": rows are not results");
  }
  expect(find_op(op_table(), "scale_rows") == nullptr, "the toy op is not in the table");
}

}  // namespace
}  // namespace mome

int main() {
  mome::a_toy_op();
  mome::specs_that_leave_something_out();
  mome::unpacked_matrices();
  mome::rows_on_devices();
  mome::keys();
  mome::the_table();
  std::printf("ops_test: %d checks, %d failed\n", mome::test::checks, mome::test::failures);
  return mome::test::failures == 0 && mome::test::checks > 0 ? 0 : 1;
}
