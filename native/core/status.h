// What a native call reports: one code of the list shared with TypeScript (ts/src/runtime/errors.ts) and a message.
#pragma once

#include <string>
#include <string_view>
#include <utility>

namespace mome {

enum class Code {
  ok,
  invalid_argument,
  invalid_shape,
  invalid_file,
  invalid_image,
  invalid_config,
  not_found,
  unsupported,
  too_large,
  out_of_memory,
  non_finite,
  aborted,
  disposed,
  device_unavailable,
  native_load,
  process_lost,
  io,
  internal,
};

// The name a user sees, "MOME_INVALID_ARGUMENT" and so on; "MOME_OK" for ok.
std::string_view code_name(Code code);

class [[nodiscard]] Status {
 public:
  // (Not inline: files compiled for one instruction set return a Status and must not lend their copy of a function to
  // others.)
  Status();
  Status(const Status& other);
  Status(Status&& other) noexcept;
  Status& operator=(const Status& other);
  Status& operator=(Status&& other) noexcept;
  ~Status();
  Status(Code code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == Code::ok; }
  Code code() const { return code_; }
  const std::string& message() const { return message_; }

 private:
  Code code_ = Code::ok;
  std::string message_;
};

// printf-style construction: error(Code::invalid_shape, "linear: expected %lld columns, got %lld", ...).
[[gnu::format(printf, 2, 3)]] Status error(Code code, const char* format, ...);

}  // namespace mome

// Returns from the enclosing function when `expression` is a failed Status.
#define MOME_RETURN_IF_ERROR(expression)                                      \
  do {                                                                        \
    if (::mome::Status status_ = (expression); !status_.ok()) return status_; \
  } while (false)
