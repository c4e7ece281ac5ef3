// Processes that are started without holding the thread that asks: `posix_spawn` shares the memory of its caller until
// the new program begins, where `fork` first copies the page tables, which takes a tenth of a second for a few
// gigabytes.
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "napi/bridge.h"
#include "napi/engine.h"

namespace mome {
namespace {

// A list of texts as `argv` and `envp` are.
class TextList {
 public:
  explicit TextList(const Napi::Array& list) {
    for (uint32_t i = 0; i < list.Length(); i++) texts_.push_back(list.Get(i).ToString().Utf8Value());
    for (std::string& text : texts_) pointers_.push_back(text.data());
    pointers_.push_back(nullptr);
  }
  char* const* data() const { return pointers_.data(); }

 private:
  std::vector<std::string> texts_;
  std::vector<char*> pointers_;
};

// Both ends of a pipe. Ends that nobody took are closed.
struct Pipe {
  int ends[2] = {-1, -1};
  Pipe() { (void)!pipe2(ends, O_CLOEXEC); }
  ~Pipe() {
    for (const int end : ends) {
      if (end >= 0) close(end);
    }
  }
  bool ok() const { return ends[0] >= 0; }
  int take(int end) { return std::exchange(ends[end], -1); }
};

// Starts the program with pipes as standard input and output and no standard error. Returns an error number, 0 for
// none.
int spawn(const std::string& file, const TextList& arguments, const TextList& environment, const Pipe& input,
          const Pipe& output, pid_t& pid) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&actions);
  posix_spawnattr_init(&attributes);
  posix_spawn_file_actions_adddup2(&actions, input.ends[0], STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, output.ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  // Signals that this process ignores or blocks are none of the new one's concern.
  sigset_t none, defaults;
  sigemptyset(&none);
  sigemptyset(&defaults);
  for (int signal = 1; signal < 32; signal++) {
    if (signal != SIGKILL && signal != SIGSTOP) sigaddset(&defaults, signal);
  }
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &defaults);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  const int failure = posix_spawn(&pid, file.c_str(), &actions, &attributes, arguments.data(), environment.data());
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  return failure;
}

// Ends and collects a process whose environment ends first, such as a worker thread that is terminated: nobody else
// would, and it would stay in the system's table as long as this process lives. Waiting is left to another thread.
void abandon(void* number) {
  const auto pid = static_cast<pid_t>(reinterpret_cast<intptr_t>(number));
  kill(pid, SIGKILL);
  try {
    std::thread([pid] { waitpid(pid, nullptr, 0); }).detach();
  } catch (const std::system_error&) {  // then it stays
  }
}

void* as_pointer(pid_t pid) { return reinterpret_cast<void*>(static_cast<intptr_t>(pid)); }

// startProcess(file, arguments, environment): { pid, input, output }: descriptors of the ends of its standard input and
// output.
Napi::Value StartProcess(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!info[0].IsString() || !info[1].IsArray() || !info[2].IsArray()) {
    return raise(env, Code::invalid_argument, "startProcess: expected (file, arguments, environment)");
  }
  const TextList arguments(info[1].As<Napi::Array>()), environment(info[2].As<Napi::Array>());
  Pipe input, output;
  pid_t pid = 0;
  const int failure = input.ok() && output.ok()
                          ? spawn(info[0].As<Napi::String>().Utf8Value(), arguments, environment, input, output, pid)
                          : errno;
  if (failure != 0) return raise(env, Code::io, std::string("startProcess: ") + std::strerror(failure));
  napi_add_env_cleanup_hook(env, abandon, as_pointer(pid));
  Napi::Object process = Napi::Object::New(env);
  process.Set("pid", Napi::Number::New(env, pid));
  process.Set("input", Napi::Number::New(env, input.take(1)));
  process.Set("output", Napi::Number::New(env, output.take(0)));
  return process;
}

// endOfProcess(pid): { code, signal } once a process of startProcess has ended, undefined until then. Its number is
// free after that.
Napi::Value EndOfProcess(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!info[0].IsNumber()) return raise(env, Code::invalid_argument, "endOfProcess: expected the number of a process");
  int status = 0;
  const pid_t pid = info[0].As<Napi::Number>().Int32Value();
  const pid_t ended = waitpid(pid, &status, WNOHANG);
  if (ended == 0) return env.Undefined();
  napi_remove_env_cleanup_hook(env, abandon, as_pointer(pid));
  Napi::Object result = Napi::Object::New(env);
  result.Set("code", ended > 0 && WIFEXITED(status) ? Napi::Number::New(env, WEXITSTATUS(status)) : env.Null());
  result.Set("signal", ended > 0 && WIFSIGNALED(status) ? Napi::Number::New(env, WTERMSIG(status)) : env.Null());
  return result;
}

}  // namespace

void register_process(Napi::Env env, Napi::Object exports) {
  exports.Set("startProcess", Napi::Function::New(env, StartProcess, "startProcess"));
  exports.Set("endOfProcess", Napi::Function::New(env, EndOfProcess, "endOfProcess"));
}

}  // namespace mome
