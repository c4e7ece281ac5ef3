// Checks of the core: parsing of programs, the arena plan, runs and their refusals, weights from files, the thread
// pool. Exit status 0 only if every check held.
#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <random>
#include <system_error>

#include "core/amx.h"
#include "core/engine.h"
#include "core/quantise.h"
#include "test/expect.h"

namespace {

using namespace mome;
using test::checks;
using test::expect;
using test::failures;

const std::string kProgram =
    "mome-program 1\n"
    "dims rows\n"
    "input x f32 rows*4\n"
    "param w 3*4\n"
    "param b 3\n"
    "buffer 0 f32 rows*3 live 0 1\n"
    "buffer 1 f32 rows*3 live 1 2\n"
    "buffer 2 f32 rows*3 live 2 2\n"
    "output y 2\n"
    "op linear.forward x=$x weight=@w bias=@b y=%0\n"
    "op tanh.forward x=%0 y=%1\n"
    "op gelu.forward x=%1 y=%2\n";

void fill(WeightStore& weights) {
  const float w[12] = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 1};
  const float b[3] = {0, 0.5f, -0.5f};
  expect(weights.add("w", {3, 4}, w, 12).ok() && weights.add("b", {3}, b, 3).ok(), "weights are taken in");
}

void test_amx() {
  constexpr uint32_t kFeatures = 1u << 22 | 1u << 24 | 1u << 25;
  constexpr uint64_t kSaved = uint64_t{3} << 17;
  expect(amx_present(kFeatures, kSaved) && amx_present(~0u, ~uint64_t{0}), "AMX is there with all of its parts");
  for (const int bit : {22, 24, 25})
    expect(!amx_present(~(1u << bit), ~uint64_t{0}), "AMX is not there without bit " + std::to_string(bit));
  for (const int bit : {17, 18})
    expect(!amx_present(~0u, ~(uint64_t{1} << bit)), "AMX is not there without state " + std::to_string(bit));
  expect(amx_usable() == amx_usable(), "asking twice gives one answer");
  expect(!target_supported(Target::amx) || amx_usable(), "kernels for AMX run only where it may be used");
}

void test_run() {
  for (const Target target : kCpuTargets) {
    if (!target_supported(target)) continue;
    Engine engine(2, target);
    WeightStore weights;
    fill(weights);
    std::shared_ptr<CompiledProgram> program;
    expect(CompiledProgram::create(kProgram, weights, target, program).ok(), "a program compiles");
    const std::vector<float> x = {1, 2, 3, 4, -1, -2, -3, -4};
    RunRequest request;
    request.dims = {2};
    request.inputs = {{ElementType::f32, x.data(), x.size()}};
    RunResult result;
    expect(engine.run(*program, weights, request, result).ok() && result.outputs.size() == 1 &&
               result.outputs[0].size() == 6,
           "a program runs");
    const auto expected = [](double v) {
      const double t = std::tanh(v);
      return 0.5 * t * std::erfc(-t / std::sqrt(2.0));
    };
    const double before[] = {1, 2.5, 6.5, -1, -1.5, -7.5};
    bool right = result.outputs[0].size() == 6;
    for (int i = 0; right && i < 6; i++) right = std::fabs(result.outputs[0][i] - expected(before[i])) < 1e-6;
    expect(right, "its numbers are right");

    request.dims = {3};
    expect(engine.run(*program, weights, request, result).code() == Code::invalid_shape,
           "an input of another size is refused");
    request.dims = {2};
    request.inputs[0].type = ElementType::i32;
    expect(engine.run(*program, weights, request, result).code() == Code::invalid_shape,
           "an input of another type is refused");
    request.inputs.clear();
    expect(engine.run(*program, weights, request, result).code() == Code::invalid_argument,
           "a missing input is refused");
    request.inputs = {{ElementType::f32, x.data(), x.size()}};
    request.cancelled = std::make_shared<std::atomic<bool>>(true);
    expect(engine.run(*program, weights, request, result).code() == Code::aborted, "a cancelled run stops");
    request.cancelled.reset();
    request.dims = {int64_t{1} << 50};
    expect(!engine.run(*program, weights, request, result).ok(), "an absurd size is refused");
    request.dims = {0};
    request.inputs = {{ElementType::f32, nullptr, 0}};
    expect(engine.run(*program, weights, request, result).ok(), "nothing is a valid input");
  }
}

// What a run takes over from the last one of its shape is what did not change.
void test_runs_of_one_shape() {
  const char* text =
      "mome-program 1\ndims n m\ninput x f32 n*2\ninput i i32 m\nparam one 2\nparam zero 2\nbuffer 0 f32 n*2 live 0 "
      "1\nbuffer 1 f32 m*2 live 1 2\n"
      "buffer 2 f32 m*2 live 2 2\noutput gathered 1\noutput normed 2\nop tanh.forward x=$x y=%0\nop "
      "gather_rows.forward x=%0 index=$i y=%1\n"
      "op layer_norm.forward x=%1 gamma=@one beta=@zero eps=#eps y=%2\n";
  WeightStore weights;
  const float ones[2] = {1, 1}, zeros[2] = {};
  expect(weights.add("one", {2}, ones, 2).ok() && weights.add("zero", {2}, zeros, 2).ok(), "weights are added");
  Engine engine(1, Target::ref);
  std::shared_ptr<CompiledProgram> program;
  expect(CompiledProgram::create(text, weights, Target::ref, program).ok(), "the program compiles");
  const auto run = [&](std::vector<float> x, std::vector<int32_t> index, double eps, const char* what) {
    RunRequest request;
    request.dims = {static_cast<int64_t>(x.size()) / 2, static_cast<int64_t>(index.size())};
    request.scalars = {eps};
    request.inputs = {{ElementType::f32, x.data(), x.size()}, {ElementType::i32, index.data(), index.size()}};
    RunResult result;
    const Status status = engine.run(*program, weights, request, result);
    if (!status.ok()) return status;
    for (size_t i = 0; i < index.size(); i++) {
      const double a = std::tanh(x[2 * index[i]]), b = std::tanh(x[2 * index[i] + 1]), half = (a - b) / 2;
      expect(std::fabs(result.outputs[0][2 * i] - a) < 1e-6 && std::fabs(result.outputs[0][2 * i + 1] - b) < 1e-6,
             what);
      expect(std::fabs(result.outputs[1][2 * i] - half / std::sqrt(half * half + eps)) < 1e-5, what);
    }
    return status;
  };
  expect(run({1, 2, 3, 5}, {0, 1}, 0.5, "the first run").ok(), "the first run goes");
  expect(run({1, 2, 3, 5}, {0, 1}, 0.5, "the same again").ok(), "the same run goes");
  expect(run({0.1f, 0.2f, 0.4f, 0.7f}, {0, 1}, 0.5, "other values").ok(), "other values go");
  expect(run({0.1f, 0.2f, 0.4f, 0.7f}, {1, 0}, 0.5, "other indices").ok(), "other indices go");
  expect(run({0.1f, 0.2f, 0.4f, 0.7f}, {1, 0}, 0.01, "another scalar").ok(), "another scalar goes");
  expect(run({0.1f, 0.2f, 0.4f, 0.7f}, {1, 2}, 0.01, "").code() == Code::invalid_argument,
         "an index outside is refused");
  expect(run({0.1f, 0.2f, 0.4f, 0.7f}, {1, 2}, 0.01, "").code() == Code::invalid_argument, "and again");
  expect(run({0.1f, 0.2f, 0.4f, 0.7f}, {1, 0}, 0.01, "after a refusal").ok(), "what was refused leaves nothing behind");
  expect(run({0.3f, 0.2f, 0.4f, 0.7f, 1, 0}, {1, 2, 0}, 0.01, "another shape").ok(), "another shape goes");
  expect(run({0.1f, 0.9f, 0.4f, 0.7f}, {1, 0}, 0.5, "the first shape again").ok(), "the first shape goes again");
}

void test_arena() {
  std::unique_ptr<Program> program;
  expect(Program::parse(kProgram, program).ok(), "the program parses");
  ArenaPlan plan;
  const std::vector<int64_t> dims = {100};
  expect(plan_arena(*program, dims, {}, plan).ok(), "the arena is planned");
  const size_t size = 100 * 3 * sizeof(float);
  const auto overlap = [&](int a, int b) {
    return plan.offsets[a] < plan.offsets[b] + size && plan.offsets[b] < plan.offsets[a] + size;
  };
  expect(!overlap(0, 1) && !overlap(1, 2), "values alive together lie apart");
  expect(plan.bytes < 3 * size, "memory is used again");
  expect(plan.offsets[0] % 64 == 0 && plan.offsets[1] % 64 == 0 && plan.offsets[2] % 64 == 0, "buffers are aligned");
}

// Programs with random damage either fail with a code or run; they never crash.
void test_damaged_programs() {
  std::mt19937 random(5);
  const char alphabet[] = "0123456789%$@^#*=. \nabcdfilmoprtuwxy-";
  Engine engine(1, Target::ref);
  int compiled = 0;
  for (int round = 0; round < 4000; round++) {
    std::string text = kProgram;
    for (int change = 0; change < 1 + round % 4; change++) {
      const size_t at = random() % text.size();
      if (random() % 3 == 0)
        text.erase(at, 1 + random() % 5);
      else
        text[at] = alphabet[random() % (sizeof alphabet - 1)];
    }
    WeightStore weights;
    const float zeros[12] = {};
    if (!weights.add("w", {3, 4}, zeros, 12).ok() || !weights.add("b", {3}, zeros, 3).ok()) continue;
    std::shared_ptr<CompiledProgram> program;
    if (!CompiledProgram::create(text, weights, Target::ref, program).ok()) continue;
    compiled++;
    const std::vector<float> x(64);
    RunRequest request;
    request.dims.assign(program->program->dims.size(), 2);
    request.scalars.assign(program->program->scalars.size(), 1.0);
    for (const ProgramInput& input : program->program->inputs) request.inputs.push_back({input.type, x.data(), 8});
    RunResult result;
    const Status status = engine.run(*program, weights, request, result);
    (void)status;
  }
  expect(compiled > 50, "some damaged programs still compile");
}

// Integers of 8-bit rows in a file are those that kernels multiply with, also where no element has the largest
// magnitude of 8 bits, so that rounding the dequantised row again would give others.
void test_rows_of_a_file(const std::string& folder_path) {
  const std::string path = folder_path + ".rows";
  constexpr int64_t kColumns = 8;
  const float scales[4] = {0.3f, 0.1f, -1, INFINITY};
  int8_t rows[3][kColumns] = {
      {100, -99, 3, 1, 0, -1, -2, 55}, {127, 1, 0, 0, 0, 0, 0, -127}, {-128, 1, 1, 1, 1, 1, 1, 1}};
  FILE* file = std::fopen(path.c_str(), "wb");
  expect(file != nullptr && std::fwrite(scales, sizeof scales, 1, file) == 1 &&
             std::fwrite(rows, sizeof rows, 1, file) == 1 && std::fclose(file) == 0,
         "the test's file is written");
  float wanted[2][kColumns], rounded[2][kColumns];
  for (int row = 0; row < 2; row++) {
    for (int64_t i = 0; i < kColumns; i++) wanted[row][i] = static_cast<float>(rows[row][i]) * scales[row];
  }
  std::memcpy(rounded, wanted, sizeof wanted);
  round_weights(2, kColumns, kNoSumLimit, rounded[0]);
  expect(std::memcmp(rounded[0], wanted[0], sizeof wanted[0]) != 0, "rounding the first row again would change it");
  ThreadPool pool(1);
  for (const Target target : kCpuTargets) {
    if (!target_supported(target)) continue;
    WeightStore kept(WeightType::i8), given(WeightType::i8), again(WeightType::i8);
    expect(kept.add_from_file(path, {{"w", {2, kColumns}, FileType::i8, sizeof scales, 0}}).ok(), "rows are taken in");
    expect(given.add("w", {2, kColumns}, wanted[0], 2 * kColumns).ok(), "numbers are taken in");
    expect(kept.pack(0, Form::packed, target, WeightType::i8, pool).ok() &&
               given.pack(0, Form::packed, target, WeightType::i8, pool).ok(),
           "both are packed");
    const Packer* packer = kernel_table(target).packer(target);
    if (packer == nullptr) {
      std::vector<float> values(2 * kColumns);
      expect(kept.read(0, values.data()).ok() && std::memcmp(values.data(), wanted, sizeof wanted) == 0,
             "a plain matrix keeps the file's integers");
      continue;
    }
    const size_t bytes = packer->size(2, kColumns, Form::packed, WeightType::i8);
    std::vector<std::byte> expected(bytes);
    packer->pack(wanted[0], scales, 2, kColumns, Form::packed, WeightType::i8, expected.data(), pool);
    expect(std::memcmp(expected.data(), kept.at(0).host[Form::packed].data(), bytes) == 0,
           "a packed matrix keeps the file's integers");
    expect(std::memcmp(expected.data(), given.at(0).host[Form::packed].data(), bytes) != 0,
           "numbers without scales are rounded, which is noticed");
  }
  const auto code_of = [&](uint64_t offset, uint64_t scale_offset) {
    WeightStore damaged(WeightType::i8);
    expect(damaged.add_from_file(path, {{"w", {1, kColumns}, FileType::i8, offset, scale_offset}}).ok(), "taken in");
    return damaged.load(0).code();
  };
  expect(code_of(16, 0) == Code::ok, "a good row is read");
  expect(code_of(16, 8) == Code::invalid_file, "a negative scale is refused");
  expect(code_of(16, 12) == Code::invalid_file, "an infinite scale is refused");
  expect(code_of(32, 0) == Code::invalid_file, "-128 is refused");
  unlink(path.c_str());
}

void test_weights_from_file() {
  std::string path = (std::filesystem::temp_directory_path() / "mome-core-test-XXXXXX").string();
  const int file = mkstemp(path.data());
  const float values[4] = {1, -2, 3.5f, 0};
  const uint16_t halves[2] = {0x3c00, 0xc000};  // 1, -2
  const int8_t bytes[4] = {127, -3, 0, 5};
  const float scales[2] = {0.5f, 2};
  bool written =
      write(file, values, sizeof values) == sizeof values && write(file, halves, sizeof halves) == sizeof halves &&
      write(file, bytes, sizeof bytes) == sizeof bytes && write(file, scales, sizeof scales) == sizeof scales;
  expect(written, "the test's file is written");
  WeightStore weights;
  const std::vector<FileRegion> regions = {
      {"a", {2, 2}, FileType::f32, 0}, {"h", {2}, FileType::f16, 16}, {"q", {2, 2}, FileType::i8, 20, 24}};
  expect(weights.add_from_file(path, regions).ok(), "weights are taken from a file");
  const auto read = [&](const char* name, int64_t count) {
    std::vector<float> got(static_cast<size_t>(count));
    expect(weights.read(weights.find(name), got.data()).ok(), "their values can be read");
    return got;
  };
  expect(read("a", 4)[2] == 3.5f && read("h", 2)[1] == -2.0f, "their values are right");
  expect(read("q", 4) == std::vector<float>({63.5f, -1.5f, 0, 10}), "8-bit values come with their scales");
  expect(weights.load(0).ok() && weights.at(0).host[Form::plain].floats()[1] == -2.0f,
         "they are brought into memory when needed");
  test_rows_of_a_file(path);
  WeightStore other;
  const auto refused = [&](FileRegion region) { return !other.add_from_file(path, {std::move(region)}).ok(); };
  expect(refused({"x", {12}, FileType::f32, 0}), "a tensor past the end is refused");
  expect(refused({"y", {1}, FileType::f32, 1u << 30}), "an offset past the end is refused");
  expect(refused({"z", {int64_t{1} << 40, int64_t{1} << 40}, FileType::f32, 0}), "absurd sizes are refused");
  expect(refused({"v", {1}, FileType::f32, ~uint64_t{0} - 2}), "an offset that wraps is refused");
  expect(refused({"u", {4, 1}, FileType::i8, 20, 24}), "scales past the end are refused");
  // Cut short or rewritten under an open store: an error, not a crash and not other numbers.
  expect(ftruncate(file, 8) == 0, "the file is cut");
  expect(weights.load(1).code() == Code::io, "a file that was cut gives an error");
  expect(weights.load(0).ok(), "what was in memory stays");
  close(file);
  unlink(path.c_str());
  WeightStore third;
  expect(!third.add_from_file(path, regions).ok(), "a missing file is refused");
}

void test_weight_types() {
  const float rounded[] = {1.0f, 1.00390625f, 1.01171875f, -3.0e38f, 0};
  float bf16[5];
  round_to_bf16(rounded, 5, bf16);
  expect(bf16[0] == 1 && bf16[1] == 1 && bf16[2] == 1.015625f && bf16[4] == 0,
         "bfloat16 rounds to nearest, ties to even");

  std::mt19937 engine(5);
  std::normal_distribution<float> normal;
  for (int round = 0; round < 200; round++) {
    float row[67], again[67];
    int8_t q[67], q_again[67];
    for (float& value : row) value = normal(engine);
    const float scale = weight_row_scale(row, 67);
    quantise_weights(row, 67, scale, 1, q);
    for (int i = 0; i < 67; i++) again[i] = scale * q[i];
    quantise_weights(again, 67, weight_row_scale(again, 67), 1, q_again);
    bool close = true;
    for (int i = 0; i < 67; i++) close = close && std::fabs(row[i] - again[i]) <= 0.5001f * scale;
    expect(close, "8-bit weights are within half a step");
    expect(weight_row_scale(again, 67) == scale && std::memcmp(q, q_again, sizeof q) == 0,
           "quantising twice changes nothing");
  }
  // Weights whose sums of four must stay below a limit.
  const int limit = weight_sum_limit(Target::avx2);
  expect(limit < 2 * kQuantLimit, "AVX2 sums in 16 bits");
  for (int round = 0; round < 300; round++) {
    const int count = 1 + round % 41;
    float direct[2][41], twice[2][41];
    for (int i = 0; i < count; i++)
      direct[1][i] = round % 3 == 0 ? 1.0f : round % 3 == 1 ? (i % 2 ? 0.5f : -0.5f) : normal(engine);
    for (int i = 0; i < count; i++) direct[0][i] = 0.001f * normal(engine);
    direct[0][0] = 1;  // no sum is large
    float* const loud = direct[1];
    const float scale = weight_row_scale(loud, count);
    const double factor = weight_row_factor(loud, count, scale, limit);
    int8_t q[48] = {};
    quantise_weights(loud, count, scale, factor, q);
    bool fits = true;
    for (int first = 0; first < 48; first += 8) {
      for (const int lane : {first, first + 2}) {
        int above = 0, below = 0;
        for (const int k : {lane, lane + 1, lane + 4, lane + 5}) (q[k] > 0 ? above : below) += q[k];
        fits = fits && above <= limit && -below <= limit;
      }
    }
    expect(fits, "no sum of four weights is above the limit");
    expect(round % 3 == 2 || count < 6 || factor < 0.6, "a row of equal weights becomes smaller");
    bool near = true;
    for (int i = 0; i < count; i++)
      near = near && std::fabs(narrowed_scale(scale, factor) * q[i] - loud[i]) <= 0.5001 * (scale + scale / factor);
    expect(near, "weights are within half a step of either rounding");
    expect(weight_row_factor(direct[0], count, weight_row_scale(direct[0], count), limit) == 1,
           "other rows stay as they are");
    for (int row = 0; row < 2; row++) {
      std::memcpy(twice[row], direct[row], sizeof direct[row]);
      round_weights(1, count, kNoSumLimit, twice[row]);
      round_weights(1, count, limit, twice[row]);
      round_weights(1, count, limit, direct[row]);
      expect(std::memcmp(twice[row], direct[row], static_cast<size_t>(count) * sizeof(float)) == 0,
             "rounding to 8 bits before changes nothing");
    }
  }
  // The steps of tiny activations would leave float32.
  const float tiny[] = {3e-37f, 0, -1e-38f, 0x1p-101f}, small[] = {0x1p-100f, 0, -0x1p-101f, 0};
  float quantised[4];
  quantise_activation_row(tiny, 4, 4, quantised);
  expect(std::all_of(quantised, quantised + 4, [](float value) { return value == 0; }), "negligible rows are zeros");
  quantise_activation_row(small, 4, 4, quantised);
  expect(std::fabs(quantised[0] - small[0]) < 1e-36f && quantised[2] < 0, "small rows are not");
  const float damaged[] = {1, std::nanf(""), 2};
  expect(std::isnan(weight_row_scale(damaged, 3)), "a row that is not finite has no scale");

  // One weight as the matrix of two ops that keep different types: refused, whichever comes first.
  for (const Target target : kCpuTargets) {
    if (!target_supported(target)) continue;
    ThreadPool pool(1);
    WeightStore shared(WeightType::i8);
    fill(shared);
    expect(shared.pack(0, Form::packed, target, WeightType::i8, pool).ok(), "a weight is packed in 8 bits");
    expect(shared.pack(0, Form::packed, target, WeightType::f32, pool).code() == Code::unsupported,
           "and not in another type as well");
    expect(shared.pack(0, Form::packed, target, WeightType::i8, pool).ok(), "the same type is fine");
  }

  WeightStore weights(WeightType::i8);
  fill(weights);
  expect(weights.enable_training().code() == Code::unsupported, "rounded weights are not trained");
}

void test_thread_pool() {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    for (const int64_t items : {0, 1, 3, 1000}) {
      std::vector<std::atomic<int>> seen(static_cast<size_t>(items));
      std::atomic<bool> workers_fit = true;
      pool.parallel_for(items, [&](int64_t item, int worker) {
        seen[static_cast<size_t>(item)]++;
        if (worker < 0 || worker >= pool.threads()) workers_fit = false;
      });
      bool once = workers_fit;
      for (const auto& count : seen) once = once && count == 1;
      expect(once, "every item is done once");
    }
  }
}

// As in a container whose limit of threads or memory is reached: stacks that fit no address space.
void test_no_more_threads() {
  pthread_attr_t usual, absurd;
  pthread_getattr_default_np(&usual);
  pthread_attr_init(&absurd);
  pthread_attr_setstacksize(&absurd, size_t{1} << 48);
  expect(pthread_setattr_default_np(&absurd) == 0, "the size of stacks is set");
  {
    ThreadPool pool(4);
    std::atomic<int> done = 0;
    pool.parallel_for(10, [&](int64_t, int worker) { done += worker == 0 ? 1 : 100; });
    expect(pool.threads() == 1 && done == 10, "a pool works with the threads it gets");
    bool refused = false;
    try {
      Engine engine(2, Target::ref);
    } catch (const std::system_error&) {
      refused = true;
    }
    expect(refused, "an engine without a thread says so");
  }
  expect(pthread_setattr_default_np(&usual) == 0 && ThreadPool(3).threads() == 3, "and later there are threads again");
  pthread_attr_destroy(&absurd);
  pthread_attr_destroy(&usual);
}

void test_engines_end_with_work_left() {
  for (int round = 0; round < 20; round++) {
    std::atomic<int> called = 0;
    {
      Engine one(2, Target::ref), two(2, Target::ref);
      for (int i = 0; i < 10; i++) {
        one.post([&] { called++; });
        two.post([&] { called++; });
      }
    }
    expect(called == 20, "queued tasks are called, even at the end");
  }
}

}  // namespace

int main() {
  test_amx();
  test_run();
  test_runs_of_one_shape();
  test_arena();
  test_damaged_programs();
  test_weights_from_file();
  test_weight_types();
  test_thread_pool();
  test_engines_end_with_work_left();
  test_no_more_threads();
  std::printf("core_test: %d checks, %d failed\n", checks, failures);
  return failures == 0 && checks > 0 ? 0 : 1;
}
