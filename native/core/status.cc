#include "core/status.h"

#include <cstdarg>
#include <cstdio>

namespace mome {

std::string_view code_name(Code code) {
  switch (code) {
    case Code::ok: return "MOME_OK";
    case Code::invalid_argument: return "MOME_INVALID_ARGUMENT";
    case Code::invalid_shape: return "MOME_INVALID_SHAPE";
    case Code::invalid_file: return "MOME_INVALID_FILE";
    case Code::invalid_image: return "MOME_INVALID_IMAGE";
    case Code::invalid_config: return "MOME_INVALID_CONFIG";
    case Code::not_found: return "MOME_NOT_FOUND";
    case Code::unsupported: return "MOME_UNSUPPORTED";
    case Code::too_large: return "MOME_TOO_LARGE";
    case Code::out_of_memory: return "MOME_OUT_OF_MEMORY";
    case Code::non_finite: return "MOME_NON_FINITE";
    case Code::aborted: return "MOME_ABORTED";
    case Code::disposed: return "MOME_DISPOSED";
    case Code::device_unavailable: return "MOME_DEVICE_UNAVAILABLE";
    case Code::native_load: return "MOME_NATIVE_LOAD";
    case Code::process_lost: return "MOME_PROCESS_LOST";
    case Code::io: return "MOME_IO";
    case Code::internal: return "MOME_INTERNAL";
  }
  return "MOME_INTERNAL";
}

Status::Status() = default;
Status::Status(const Status& other) = default;
Status::Status(Status&& other) noexcept = default;
Status& Status::operator=(const Status& other) = default;
Status& Status::operator=(Status&& other) noexcept = default;
Status::~Status() = default;

Status error(Code code, const char* format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  return Status(code, text);
}

}  // namespace mome
