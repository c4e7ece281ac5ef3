// Checks of what engines of one process owe each other and of what stops a run: turns at the cores, loops that end
// early. Exit status 0 only if every check held.
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdio>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "core/engine.h"
#include "core/kernel_call.h"
#include "core/ops/attention.h"
#include "test/expect.h"

namespace {

using namespace mome;
using test::checks;
using test::expect;
using test::failures;

// Engines that keep each other busy: each task posts the next one of its engine until `tasks` have run.
struct Contest {
  explicit Contest(const std::vector<int>& threads) {
    for (const int count : threads) engines.push_back(std::make_unique<Engine>(count, Target::ref));
    starts.resize(engines.size());
  }

  void keep_busy(size_t engine, int tasks) {
    engines[engine]->post([this, engine, tasks] {
      count_start(engine);
      if (tasks > 1) keep_busy(engine, tasks - 1);
      std::this_thread::yield();  // room for others to get between
    });
  }
  void count_start(size_t engine) {
    const std::lock_guard lock(mutex);
    order.push_back(engine);
    starts[engine]++;
    moved.notify_all();
  }
  std::vector<int> starts_now() {
    const std::lock_guard lock(mutex);
    return starts;
  }
  void wait_for(const std::function<bool()>& reached) {
    std::unique_lock lock(mutex);
    moved.wait(lock, reached);
  }
  // The most starts of any other engine between two starts of `engine`, from its first to its last.
  int most_between(size_t engine) {
    std::vector<int> between(engines.size(), 0);
    int most = 0;
    bool begun = false;
    int left = starts[engine];
    for (const size_t started : order) {
      if (started == engine) {
        begun = true;
        between.assign(engines.size(), 0);
        if (--left == 0) break;
      } else if (begun) {
        most = std::max(most, ++between[started]);
      }
    }
    return most;
  }

  std::vector<size_t> order;
  std::vector<int> starts;
  std::mutex mutex;
  std::condition_variable moved;
  std::vector<std::unique_ptr<Engine>> engines;  // the last member: it ends first
};

// An engine that needs all cores and two that share them: with none preferred, each starts about as often as the
// others.
void test_turns() {
  const int cores = available_cores(), half = std::max(1, cores / 2);
  constexpr int kTasks = 300;
  Contest contest({cores, half, half});
  for (size_t engine = 0; engine < 3; engine++) contest.keep_busy(engine, kTasks);
  contest.wait_for([&] { return contest.order.size() == 3 * kTasks; });
  expect(contest.most_between(0) <= 2, "an engine of all cores waits for at most two runs of each other engine");
  if (half > 1 || cores == 1) return;  // on these, the two take turns as well
  expect(contest.most_between(1) <= 2 && contest.most_between(2) <= 2,
         "engines of one thread wait for at most two runs of each other engine");
}

// A call to an engine that was idle: what others have queued behind it does not run before it.
void test_turn_of_a_newcomer() {
  const int cores = available_cores(), half = std::max(1, cores / 2);
  for (const int threads : {1, cores}) {
    Contest contest({threads, half, cores});
    contest.keep_busy(1, 2000);
    contest.keep_busy(2, 2000);
    contest.wait_for([&] { return contest.starts[1] > 2 && contest.starts[2] > 2; });
    bool fair = true;
    for (int call = 0; call < 50 && fair; call++) {
      std::vector<int> at_start;
      std::unique_lock lock(contest.mutex);  // nobody starts between the look and the call
      const std::vector<int> before = contest.starts;
      contest.engines[0]->post([&] {
        at_start = contest.starts_now();
        contest.count_start(0);
      });
      lock.unlock();
      contest.wait_for([&] { return contest.starts[0] > call; });
      fair = at_start[1] - before[1] <= 2 && at_start[2] - before[2] <= 2;
    }
    expect(fair, "a call to an idle engine starts within two runs of each other engine");
  }
}

void test_loops_stop() {
  for (const int threads : {1, 3}) {
    ThreadPool pool(threads);
    std::atomic<bool> never{false}, stop{false};
    std::atomic<int64_t> ran{0};
    const auto count = [&](int64_t item, int) {
      ran++;
      if (item == 10) stop = true;
    };
    {
      const ThreadPool::StopScope scope(pool, &never, &stop);
      pool.parallel_for(int64_t{1} << 40, count);
      expect(ran >= 11 && ran < 100000, "a loop ends when a flag is set");
      expect(pool.stopped(), "and the pool says so");
      ran = 0;
      pool.parallel_for(1000, count);
      expect(ran == 0, "the next loop does not begin");
    }
    pool.parallel_for(1000, count);
    expect(ran == 1000 && !pool.stopped(), "without the scope loops are whole again");
  }
}

// One head of one picture of 65,537 tokens is one item of a loop: seconds of work, of which most is left undone once
// the run is stopped.
void test_a_long_kernel_stops() {
  constexpr int64_t kGrid = 256, kTokens = 1 + kGrid * kGrid, kWidth = 8;
  const Sequence sequence{0, 0, 0, static_cast<int32_t>(kTokens)};
  const std::vector<float> qkv(3 * kWidth * kTokens, 0.1f);
  for (const Target target : kCpuTargets) {
    if (!target_supported(target)) continue;
    std::vector<float> out(kWidth * kTokens, NAN), lse(kTokens, NAN);
    const AttentionForward args{kTokens,    kWidth,     1,          1, &sequence,
                                qkv.data(), nullptr,    0,          0, {static_cast<int32_t>(kGrid), 0},
                                0.3f,       out.data(), lse.data(), 0, false};
    ThreadPool pool(2);
    KernelCall call;
    if (!call.prepare(target, pool, args).ok()) return expect(false, "the kernel can be run");
    std::atomic<bool> stop{false};
    const ThreadPool::StopScope scope(pool, &stop);
    std::thread stopper([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      stop = true;
    });
    const Status status = call.run();
    stopper.join();
    int64_t done = 0;
    for (const float value : lse) done += std::isnan(value) ? 0 : 1;
    expect(status.ok() && done < kTokens / 2, "attention over one large picture ends when the run is stopped");
  }
}

// The result of a run that was cancelled during its last kernel is not handed out.
void test_a_stopped_run_has_no_result() {
  const char* text =
      "mome-program 1\ndims n\ninput x f32 n\nbuffer 0 f32 n live 0 0\noutput y 0\nop tanh.forward x=$x y=%0\n";
  WeightStore weights;
  Engine engine(1, Target::ref);
  std::shared_ptr<CompiledProgram> program;
  expect(CompiledProgram::create(text, weights, Target::ref, program).ok(), "the program compiles");
  const std::vector<float> x(1 << 22, 0.5f);
  int aborted = 0;
  for (int delay = 0; delay < 50; delay++) {
    RunRequest request;
    request.dims = {static_cast<int64_t>(x.size())};
    request.inputs = {{ElementType::f32, x.data(), x.size()}};
    request.cancelled = std::make_shared<std::atomic<bool>>(false);
    RunResult result;
    std::atomic<bool> done{false};
    std::thread canceller([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(delay));
      request.cancelled->store(true);
      done = true;
    });
    const Status status = engine.run(*program, weights, request, result);
    const bool cancelled_before = done;
    canceller.join();
    if (status.code() == Code::aborted)
      aborted++;
    else
      expect(status.ok() && result.outputs[0].size() == x.size(), "a run that was not cancelled in time is whole");
    if (status.code() == Code::aborted) expect(result.outputs.empty(), "a cancelled run has no outputs");
    if (!cancelled_before && status.ok()) break;
  }
  expect(aborted > 0, "some runs were cancelled in time");
}

}  // namespace

int main() {
  test_turns();
  test_turn_of_a_newcomer();
  test_loops_stop();
  test_a_long_kernel_stops();
  test_a_stopped_run_has_no_result();
  std::printf("engine_test: %d checks, %d failed\n", checks, failures);
  return failures == 0 && checks > 0 ? 0 : 1;
}
