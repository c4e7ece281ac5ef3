#include "core/program.h"

#include <algorithm>
#include <charconv>
#include <unordered_map>

#include "core/ops/table.h"

namespace mome {
namespace {

// Limits far above the sizes of any real program: a damaged text cannot ask for more.
constexpr size_t kMaxText = size_t{64} << 20;
constexpr size_t kMaxItems = 1 << 20;
constexpr int64_t kMaxExtent = int64_t{1} << 40;

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(separator, begin), text.size());
    if (end > begin) parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

template <typename Number>
bool parse_number(std::string_view text, Number& number) {
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
  return code == std::errc{} && end == text.data() + text.size();
}

class Parser {
 public:
  Parser(Program& program, OpTable ops) : program_(program), ops_(ops) {}

  Status line(std::string_view text, int number) {
    number_ = number;
    const std::vector<std::string_view> fields = split(text, ' ');
    if (fields.empty()) return {};
    if (!started_) {
      if (fields.size() != 2 || fields[0] != "mome-program" || fields[1] != "1")
        return fail("expected 'mome-program 1'", text);
      started_ = true;
      return {};
    }
    if (fields[0] == "dims") return dims(fields);
    if (fields[0] == "input") return input(fields);
    if (fields[0] == "param") return parameter(fields);
    if (fields[0] == "buffer") return buffer(fields);
    if (fields[0] == "output") return output(fields);
    if (fields[0] == "op") return instruction(fields);
    return fail("expected dims, input, param, buffer, output or op", fields[0]);
  }

  Status finish() {
    if (!started_) return fail("expected 'mome-program 1'", "an empty text");
    const int end = static_cast<int>(program_.instructions.size());
    for (const ProgramBuffer& buffer : program_.buffers) {
      if (buffer.kind == ProgramBuffer::Kind::own &&
          (buffer.first < 0 || buffer.first > buffer.last || buffer.last > end)) {
        return error(Code::invalid_argument, "program: expected the life of buffer %lld inside [0, %d], got %d to %d",
                     static_cast<long long>(buffer.id), end, buffer.first, buffer.last);
      }
    }
    return {};
  }

 private:
  Status fail(const char* expected, std::string_view got) const {
    return error(Code::invalid_argument, "program line %d: %s, got '%.*s'", number_, expected,
                 static_cast<int>(std::min<size_t>(got.size(), 80)), got.data());
  }

  Status dims(const std::vector<std::string_view>& fields) {
    for (size_t i = 1; i < fields.size(); i++) {
      if (!dim_index_.emplace(std::string(fields[i]), static_cast<int>(program_.dims.size())).second)
        return fail("expected each dimension once", fields[i]);
      program_.dims.emplace_back(fields[i]);
    }
    return {};
  }

  bool extent(std::string_view text, Extent& extent) const {
    if (parse_number(text, extent.size)) return extent.size >= 0 && extent.size <= kMaxExtent;
    const auto found = dim_index_.find(std::string(text));
    if (found == dim_index_.end()) return false;
    extent.dim = found->second;
    return true;
  }

  bool shape(std::string_view text, Extents& extents) const {
    for (const std::string_view part : split(text, '*')) {
      Extent one;
      if (!extent(part, one)) return false;
      extents.push_back(one);
    }
    return !extents.empty() && extents.size() <= 8;
  }

  Status input(const std::vector<std::string_view>& fields) {
    ProgramInput input;
    if (fields.size() != 4 || !shape(fields[3], input.shape))
      return fail("expected 'input <name> <type> <shape>'", fields.back());
    input.name = fields[1];
    if (fields[2] == "f32")
      input.type = ElementType::f32;
    else if (fields[2] == "i32")
      input.type = ElementType::i32;
    else if (fields[2] == "u8")
      input.type = ElementType::u8;
    else
      return fail("expected f32, i32 or u8", fields[2]);
    if (!input_index_.emplace(input.name, static_cast<int>(program_.inputs.size())).second)
      return fail("expected each input once", fields[1]);
    program_.inputs.push_back(std::move(input));
    return {};
  }

  Status parameter(const std::vector<std::string_view>& fields) {
    ProgramParameter parameter;
    if (fields.size() != 3 || !shape(fields[2], parameter.shape))
      return fail("expected 'param <name> <shape>'", fields.back());
    parameter.name = fields[1];
    for (const Extent& one : parameter.shape) {
      if (one.dim >= 0) return fail("expected a parameter of fixed shape", fields[2]);
    }
    if (!parameter_index_.emplace(parameter.name, static_cast<int>(program_.parameters.size())).second)
      return fail("expected each parameter once", fields[1]);
    program_.parameters.push_back(std::move(parameter));
    return {};
  }

  bool known_buffer(std::string_view text, int& index) const {
    int64_t id = 0;
    if (!parse_number(text, id)) return false;
    const auto found = buffer_index_.find(id);
    if (found == buffer_index_.end()) return false;
    index = found->second;
    return true;
  }

  Status buffer(const std::vector<std::string_view>& fields) {
    ProgramBuffer buffer;
    if (fields.size() < 6 || !parse_number(fields[1], buffer.id) || fields[2] != "f32" ||
        !shape(fields[3], buffer.shape)) {
      return fail("expected 'buffer <id> f32 <shape> live|alias|rows ...'", fields.back());
    }
    if (fields[4] == "live" && fields.size() == 7 && parse_number(fields[5], buffer.first) &&
        parse_number(fields[6], buffer.last)) {
      buffer.kind = ProgramBuffer::Kind::own;
    } else if (fields[4] == "alias" && fields.size() == 6 && known_buffer(fields[5], buffer.of)) {
      buffer.kind = ProgramBuffer::Kind::alias;
    } else if (fields[4] == "rows" && fields.size() == 7 && known_buffer(fields[5], buffer.of) &&
               extent(fields[6], buffer.begin)) {
      buffer.kind = ProgramBuffer::Kind::rows;
    } else {
      return fail("expected 'live <first> <last>', 'alias <id>' or 'rows <id> <begin>'", fields[4]);
    }
    if (program_.buffers.size() >= kMaxItems) return fail("expected fewer buffers", fields[1]);
    if (!buffer_index_.emplace(buffer.id, static_cast<int>(program_.buffers.size())).second)
      return fail("expected each buffer once", fields[1]);
    program_.buffers.push_back(std::move(buffer));
    return {};
  }

  Status output(const std::vector<std::string_view>& fields) {
    ProgramOutput output;
    if (fields.size() != 3 || !known_buffer(fields[2], output.buffer))
      return fail("expected 'output <name> <buffer>'", fields.back());
    output.name = fields[1];
    program_.outputs.push_back(std::move(output));
    return {};
  }

  Status instruction(const std::vector<std::string_view>& fields) {
    if (fields.size() < 2) return fail("expected 'op <name>.<direction>'", "op");
    const size_t dot = fields[1].rfind('.');
    Instruction instruction;
    if (dot != std::string_view::npos) instruction.op = find_op(ops_, fields[1].substr(0, dot));
    if (instruction.op == nullptr) return fail("expected a known op", fields[1]);
    const std::string_view direction = fields[1].substr(dot + 1);
    if (direction != "forward" && direction != "backward") return fail("expected forward or backward", direction);
    instruction.direction = direction == "forward" ? Direction::forward : Direction::backward;
    for (size_t i = 2; i < fields.size(); i++) {
      const size_t equals = fields[i].find('=');
      Operand operand;
      if (equals == 0 || equals == std::string_view::npos) return fail("expected '<key>=<value>'", fields[i]);
      operand.key = fields[i].substr(0, equals);
      if (instruction.find(operand.key) != nullptr) return fail("expected each key once", fields[i]);
      if (!value(fields[i].substr(equals + 1), operand)) return fail("expected a known value", fields[i]);
      instruction.operands.push_back(std::move(operand));
    }
    if (program_.instructions.size() >= kMaxItems) return fail("expected fewer instructions", fields[1]);
    program_.instructions.push_back(std::move(instruction));
    return {};
  }

  bool value(std::string_view text, Operand& operand) {
    if (text.empty()) return false;
    const std::string name(text.substr(1));
    const auto named = [&](const std::unordered_map<std::string, int>& table, Operand::Kind kind) {
      const auto found = table.find(name);
      if (found == table.end()) return false;
      operand.kind = kind;
      operand.index = found->second;
      return true;
    };
    switch (text[0]) {
      case '%': operand.kind = Operand::Kind::buffer; return known_buffer(text.substr(1), operand.index);
      case '$': return named(input_index_, Operand::Kind::input);
      case '@': return named(parameter_index_, Operand::Kind::parameter);
      case '^': return named(parameter_index_, Operand::Kind::gradient);
      case '#': {
        const auto [found, fresh] = scalar_index_.emplace(name, static_cast<int>(program_.scalars.size()));
        if (fresh) program_.scalars.push_back(name);
        operand.kind = Operand::Kind::scalar;
        operand.index = found->second;
        return true;
      }
      default:
        operand.kind = Operand::Kind::number;
        if (parse_number(text, operand.number)) return true;
        const auto found = dim_index_.find(std::string(text));
        if (found == dim_index_.end()) return false;
        operand.dim = found->second;
        return true;
    }
  }

  Program& program_;
  OpTable ops_;
  int number_ = 0;
  bool started_ = false;
  std::unordered_map<std::string, int> dim_index_, input_index_, parameter_index_, scalar_index_;
  std::unordered_map<int64_t, int> buffer_index_;
};

}  // namespace

const Operand* Instruction::find(std::string_view key) const {
  for (const Operand& operand : operands) {
    if (operand.key == key) return &operand;
  }
  return nullptr;
}

Status Program::parse(std::string_view text, std::unique_ptr<Program>& program) {
  return parse(text, op_table(), program);
}

Status Program::parse(std::string_view text, OpTable ops, std::unique_ptr<Program>& program) {
  if (text.size() > kMaxText)
    return error(Code::too_large, "program: expected at most %zu bytes, got %zu", kMaxText, text.size());
  auto parsed = std::make_unique<Program>();
  Parser parser(*parsed, ops);
  int number = 0;
  for (const std::string_view line : split(text, '\n')) MOME_RETURN_IF_ERROR(parser.line(line, ++number));
  MOME_RETURN_IF_ERROR(parser.finish());
  program = std::move(parsed);
  return {};
}

}  // namespace mome
