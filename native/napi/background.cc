// Functions that need no engine: picture resizing and top-k, on a few threads of their own, never on libuv's.
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#include "core/thread_pool.h"
#include "image/resize_bicubic.h"
#include "napi/bridge.h"
#include "napi/engine.h"
#include "search/top_k.h"
#include "search/top_k_i8.h"

namespace mome {
namespace {

constexpr int64_t kMaxSide = 1 << 16;

// Work of all environments of the process, first come, first served. Threads are started when there is more work than
// threads that wait for some, and stay.
class Queue {
 public:
  static Queue& shared() {
    static Queue& queue = *new Queue();  // never destroyed: its threads may outlive main
    return queue;
  }

  // False where no thread could be started and there is none yet: `work` will not be called.
  bool post(std::function<void()> work) {
    const std::lock_guard lock(mutex_);
    work_.push_back(std::move(work));
    if (waiting_ < work_.size() && threads_ < most_) {
      try {
        std::thread([this] { serve(); }).detach();
        threads_++;
      } catch (const std::system_error&) {
        if (threads_ == 0) work_.pop_back();
      }
    }
    wake_.notify_one();
    return threads_ > 0;
  }

 private:
  void serve() {
    std::unique_lock lock(mutex_);
    for (;;) {
      waiting_++;
      wake_.wait(lock, [&] { return !work_.empty(); });
      waiting_--;
      std::function<void()> work = std::move(work_.front());
      work_.pop_front();
      lock.unlock();
      work();
      work = nullptr;
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> work_;
  size_t waiting_ = 0;  // threads
  int threads_ = 0;
  const int most_ = std::min(4, available_cores());
};

// Queues `work` and settles `pending` with its result. A failed allocation becomes a status.
template <typename Work>
void in_background(std::shared_ptr<PendingPromise> pending, Work work) {
  const bool queued = Queue::shared().post([pending, work = std::move(work)] {
    PendingPromise::Make make;
    Status status;
    try {
      status = work(make);
    } catch (const std::bad_alloc&) {
      status = error(Code::out_of_memory, "background: no memory");
    }
    pending->settle(std::move(status), std::move(make));
  });
  if (!queued) pending->settle(error(Code::out_of_memory, "background: no thread could be started"), nullptr);
}

// resizeBicubic(source: Uint8Array, width, height, targetWidth, targetHeight): Promise<Uint8Array>
Napi::Value ResizeBicubic(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  int64_t width = 0, height = 0, target_width = 0, target_height = 0;
  if (!info[0].IsTypedArray() || info[0].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array ||
      !number_at(info, 1, width) || !number_at(info, 2, height) || !number_at(info, 3, target_width) ||
      !number_at(info, 4, target_height)) {
    return raise(env, Code::invalid_argument,
                 "resizeBicubic: expected (Uint8Array, width, height, targetWidth, targetHeight)");
  }
  const Napi::Uint8Array source = info[0].As<Napi::Uint8Array>();
  if (width < 1 || height < 1 || target_width < 1 || target_height < 1 || width > kMaxSide || height > kMaxSide ||
      target_width > kMaxSide || target_height > kMaxSide ||
      static_cast<int64_t>(source.ElementLength()) != width * height * 3) {
    return raise(env, Code::invalid_shape, "resizeBicubic: expected width x height x 3 bytes and sides of 1 to 65536");
  }
  // The pixels are shared: copying them here would hold up the event loop. Whoever calls owns them, and changes nothing
  // until the promise settles. An environment that ends waits for a row.
  auto pending = PendingPromise::create(env);
  pending->hold(info[0]);
  const Napi::Value promise = pending->promise();
  const uint8_t* pixels = source.Data();
  in_background(pending, [=](PendingPromise::Make& make) -> Status {
    auto resized = std::make_shared<std::vector<uint8_t>>(static_cast<size_t>(target_width * target_height * 3));
    BicubicResize resize;
    if (!resize.prepare(width, height, target_width, target_height)) {
      return error(Code::out_of_memory, "resizeBicubic: no memory for %lld x %lld",
                   static_cast<long long>(target_width), static_cast<long long>(target_height));
    }
    for (int64_t row = 0; row < target_height; row++) {
      if (!pending->while_open([&] { resize.run(pixels, resized->data(), 1); }))
        return error(Code::aborted, "resizeBicubic: aborted");
    }
    make = [resized](Napi::Env env) { return to_array<Napi::Uint8Array>(env, resized->data(), resized->size()); };
    return {};
  });
  return promise;
}

// limitMemory(bytes): from now on this process gets no more private writable memory than so many bytes: allocations
// fail beyond. It can be called again with another number.
Napi::Value LimitMemory(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  int64_t bytes = 0;
  if (!number_at(info, 0, bytes)) return raise(env, Code::invalid_argument, "limitMemory: expected a number of bytes");
  rlimit limit{};
  if (getrlimit(RLIMIT_DATA, &limit) != 0) return raise(env, Code::io, "limitMemory: could not read the limit");
  limit.rlim_cur = std::min<rlim_t>(static_cast<rlim_t>(bytes), limit.rlim_max);
  if (setrlimit(RLIMIT_DATA, &limit) != 0) return raise(env, Code::io, "limitMemory: could not set the limit");
  return env.Undefined();
}

// The flag of a cancel token; null for anything else.
std::shared_ptr<std::atomic<bool>> flag_of(const Napi::Value& token) {
  if (!token.IsObject() ||
      !token.As<Napi::Object>().InstanceOf(token.Env().GetInstanceData<AddonState>()->cancel_token.Value()))
    return nullptr;
  return CancelToken::Unwrap(token.As<Napi::Object>())->flag();
}

Napi::Value nearest(Napi::Env env, const TopK& best) {
  Napi::Object result = Napi::Object::New(env);
  result.Set("indices", to_array<Napi::Int32Array>(env, best.indices.data(), best.indices.size()));
  result.Set("scores", to_array<Napi::Float32Array>(env, best.scores.data(), best.scores.size()));
  return result;
}

// topK(rows: Float32Array, width, query: Float32Array, k, cancelToken?): Promise<{ indices: Int32Array, scores:
// Float32Array }>
//
// The query is copied. The rows are not, for copying millions of them would cost more than the search: they belong to
// the library, which gives their array to nobody and so keeps it attached and unchanged. The array is held here, so
// that it is not collected.
Napi::Value TopKOf(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  int64_t width = 0, k = 0;
  if (!info[0].IsTypedArray() || !info[2].IsTypedArray() ||
      info[0].As<Napi::TypedArray>().TypedArrayType() != napi_float32_array ||
      info[2].As<Napi::TypedArray>().TypedArrayType() != napi_float32_array || !number_at(info, 1, width) ||
      !number_at(info, 3, k)) {
    return raise(env, Code::invalid_argument, "topK: expected (Float32Array, width, Float32Array, k)");
  }
  const Napi::Float32Array rows = info[0].As<Napi::Float32Array>();
  const Napi::Float32Array query = info[2].As<Napi::Float32Array>();
  if (width < 1 || static_cast<int64_t>(query.ElementLength()) != width ||
      rows.ElementLength() % static_cast<size_t>(width) != 0) {
    return raise(env, Code::invalid_shape, "topK: expected whole rows and a query of the same width");
  }
  const int64_t count = static_cast<int64_t>(rows.ElementLength()) / width;
  if (count > INT32_MAX)
    return raise(env, Code::too_large, "topK: expected at most 2^31 - 1 rows, got " + std::to_string(count));
  auto wanted = std::make_shared<std::vector<float>>(query.Data(), query.Data() + width);
  const std::shared_ptr<std::atomic<bool>> cancelled = flag_of(info[4]);
  auto pending = PendingPromise::create(env);
  pending->hold(info[0]);
  const Napi::Value promise = pending->promise();
  const float* data = rows.Data();
  in_background(pending, [=](PendingPromise::Make& make) -> Status {
    const auto run = [&](const std::function<void()>& piece) {
      return !(cancelled && cancelled->load(std::memory_order_relaxed)) && pending->while_open(piece);
    };
    auto best = std::make_shared<TopK>();
    MOME_RETURN_IF_ERROR(top_k(data, count, width, wanted->data(), k, run, *best));
    make = [best](Napi::Env env) { return nearest(env, *best); };
    return {};
  });
  return promise;
}

// topKOfFile(descriptor, { codesAt, scalesAt, rowsAt, count }, width, query: Float32Array, k, candidates,
// cancelToken?): as topK, over 8-bit rows of an open file at these positions, in bytes. The descriptor is duplicated
// and the query copied before this returns.
Napi::Value TopKOfFile(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  int64_t descriptor = 0, width = 0, k = 0, candidates = 0;
  int64_t codes_at = 0, scales_at = 0, rows_at = 0, count = 0;
  const auto number_of = [&](const char* name, int64_t& value) {
    const Napi::Value given = info[1].As<Napi::Object>().Get(name);
    return given.IsNumber() && number_in(given.As<Napi::Number>().DoubleValue(), value);
  };
  if (!number_at(info, 0, descriptor) || descriptor > INT32_MAX || !info[1].IsObject() ||
      !number_of("codesAt", codes_at) || !number_of("scalesAt", scales_at) || !number_of("rowsAt", rows_at) ||
      !number_of("count", count) || !number_at(info, 2, width) || !info[3].IsTypedArray() ||
      info[3].As<Napi::TypedArray>().TypedArrayType() != napi_float32_array || !number_at(info, 4, k) ||
      !number_at(info, 5, candidates)) {
    return raise(env, Code::invalid_argument,
                 "topKOfFile: expected (descriptor, positions, width, Float32Array, k, candidates)");
  }
  const Napi::Float32Array query = info[3].As<Napi::Float32Array>();
  if (width < 1 || width > kMaxSide || static_cast<int64_t>(query.ElementLength()) != width)
    return raise(env, Code::invalid_shape, "topKOfFile: expected a query of the width of the rows");
  if (count > INT32_MAX)
    return raise(env, Code::too_large, "topKOfFile: expected at most 2^31 - 1 rows, got " + std::to_string(count));
  // Kept by this search alone: the caller may close its own meanwhile.
  const int own = fcntl(static_cast<int>(descriptor), F_DUPFD_CLOEXEC, 0);
  if (own < 0) return raise(env, Code::io, "topKOfFile: could not duplicate the descriptor of the file");
  auto source = std::make_shared<FileRowsI8>(own, codes_at, scales_at, rows_at, code_stride(width), width);
  auto wanted = std::make_shared<std::vector<float>>(query.Data(), query.Data() + width);
  const std::shared_ptr<std::atomic<bool>> cancelled = flag_of(info[6]);
  auto pending = PendingPromise::create(env);
  const Napi::Value promise = pending->promise();
  in_background(pending, [=](PendingPromise::Make& make) -> Status {
    const auto run = [&](const std::function<void()>& piece) {
      return !(cancelled && cancelled->load(std::memory_order_relaxed)) && pending->while_open(piece);
    };
    auto best = std::make_shared<TopK>();
    MOME_RETURN_IF_ERROR(top_k_i8(*source, count, width, wanted->data(), k, candidates, run, *best));
    make = [best](Napi::Env env) { return nearest(env, *best); };
    return {};
  });
  return promise;
}

}  // namespace

void register_background(Napi::Env env, Napi::Object exports) {
  exports.Set("resizeBicubic", Napi::Function::New(env, ResizeBicubic, "resizeBicubic"));
  exports.Set("limitMemory", Napi::Function::New(env, LimitMemory, "limitMemory"));
  exports.Set("topKOfFile", Napi::Function::New(env, TopKOfFile, "topKOfFile"));
  exports.Set("topK", Napi::Function::New(env, TopKOf, "topK"));
}

}  // namespace mome
