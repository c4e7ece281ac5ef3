#include "test/comparison.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace mome::test {
namespace {

int failed = 0;

}  // namespace

int failures() { return failed; }

void fail(const std::string& what) {
  std::printf("FAILED %s\n", what.c_str());
  failed++;
}

Difference difference(const Tensor& actual, const Tensor& expected) {
  Difference d;
  if (actual.size() != expected.size()) return {INFINITY, 0};
  double squares = 0, norm = 0, most = 0;
  for (size_t i = 0; i < expected.size(); i++) {
    const double a = actual[i], e = expected[i];
    if ((std::isnan(a) && std::isnan(e)) || (std::isinf(e) && a == e)) continue;
    const double delta = std::fabs(a - e);
    if (!std::isfinite(delta)) return {INFINITY, i};
    if (delta > most) {
      most = delta;
      d.worst = i;
    }
    squares += delta * delta;
    norm += e * e;
  }
  d.relative = norm == 0 ? std::sqrt(squares) : std::sqrt(squares / norm);
  return d;
}

Tensors random_like(const Tensors& outputs, const std::vector<std::string>& names, uint32_t seed) {
  Random random(seed);
  Tensors result;
  for (const std::string& name : names) result[name] = random.normal(static_cast<int64_t>(outputs.at(name).size()));
  return result;
}

bool run_case(const OpCase& test, Target target, int threads, const Tensors* saved, Results& results,
              const std::shared_ptr<Device>& device, Target rounding) {
  ThreadPool pool(threads);
  Runner runner(target, pool, test.type, device);
  if (target == Target::ref) runner.round_as(rounding);
  Status status = test.forward(runner, test.inputs, results.outputs);
  results.columns = runner.columns();
  if (status.ok() && test.backward && !device) {
    const Tensors dout = random_like(results.outputs, test.differentiable, 99);
    status = test.backward(runner, test.inputs, saved != nullptr ? *saved : results.outputs, dout, results.gradients);
  }
  if (!status.ok()) fail(test.name + " on " + std::string(target_name(target)) + ": " + status.message());
  return status.ok();
}

Tensor without_ties(const OpCase& test, Tensor actual, const Tensor& expected) {
  if (test.ties.most == 0 || actual.size() != expected.size()) return actual;
  const int64_t width = static_cast<int64_t>(expected.size()) / test.ties.rows;
  std::vector<std::pair<double, int64_t>> apart;  // error and begin of a row
  for (int64_t begin = 0; begin < width * test.ties.rows; begin += width) {
    const auto row = [&](const Tensor& values) {
      return Tensor(values.begin() + begin, values.begin() + begin + width);
    };
    const double error = difference(row(actual), row(expected)).relative;
    if (error > test.bound && error <= kTieBound) apart.emplace_back(error, begin);
  }
  std::sort(apart.rbegin(), apart.rend());
  for (size_t i = 0; i < apart.size() && i < static_cast<size_t>(test.ties.most); i++) {
    std::copy_n(expected.begin() + apart[i].second, width, actual.begin() + apart[i].second);
  }
  return actual;
}

void compare(const OpCase& test, const char* kind, Target target, const Tensors& actual, const Tensors& expected) {
  for (const auto& [name, values] : expected) {
    const Difference d = difference(without_ties(test, actual.at(name), values), values);
    if (d.relative <= test.bound) continue;
    char line[256];
    std::snprintf(line, sizeof line, "%s %s %s on %s: relative L2 %.3g > %.3g, element %zu is %.9g, expected %.9g",
                  test.name.c_str(), kind, name.c_str(), target_name(target).data(), d.relative, test.bound, d.worst,
                  d.worst < actual.at(name).size() ? actual.at(name)[d.worst] : NAN,
                  d.worst < values.size() ? values[d.worst] : NAN);
    fail(line);
  }
}

bool same_bits(const Tensors& a, const Tensors& b) {
  for (const auto& [name, values] : a) {
    const Tensor& other = b.at(name);
    if (other.size() != values.size()) return false;
    if (!values.empty() && std::memcmp(values.data(), other.data(), values.size() * sizeof(float)) != 0) return false;
  }
  return true;
}

}  // namespace mome::test
