// A lowered graph: kernel calls over values whose sizes are products of numbers and per-run dimensions. It is parsed
// from text, so that a machine without Node can run the same programs.
//
//   mome-program 1
//   dims <name> ...
//   input <name> <f32|i32|u8> <shape>            shape: numbers and dimension names joined by '*'
//   param <name> <shape>
//   buffer <id> f32 <shape> live <first> <last>   arena memory, alive from instruction first to last
//   buffer <id> f32 <shape> alias <id>            the other's memory from its start
//   buffer <id> f32 <shape> rows <id> <begin>     the other's memory from row <begin> on
//   output <name> <id>
//   op <op>.<forward|backward> <key>=<value> ...  a value is a %buffer, $input, @parameter, ^gradient, #scalar, number
//                                                 or dimension
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/kernel.h"
#include "core/status.h"

namespace mome {

// A number, or a dimension bound per run.
struct Extent {
  int64_t size = 0;
  int dim = -1;  // index into Program::dims, -1 for a number
};
using Extents = std::vector<Extent>;

enum class ElementType { f32, i32, u8 };

struct ProgramInput {
  std::string name;
  ElementType type;
  Extents shape;
};
struct ProgramParameter {
  std::string name;
  Extents shape;
};
struct ProgramBuffer {
  enum class Kind { own, alias, rows };
  int64_t id;
  Extents shape;
  Kind kind;
  int first = 0, last = 0;  // own
  int of = -1;              // alias, rows: index into Program::buffers, always lower than this one's
  Extent begin;             // rows
};
struct ProgramOutput {
  std::string name;
  int buffer;
};

struct Operand {
  enum class Kind { buffer, input, parameter, gradient, scalar, number };
  std::string key;
  Kind kind;
  int index = -1;     // buffer, input, parameter, gradient, scalar
  double number = 0;  // number
  int dim = -1;       // number: a dimension
};

struct OpSpec;
// Ops by their specs (core/ops/spec.h).
using OpTable = std::span<const OpSpec* const>;

struct Instruction {
  const OpSpec* op = nullptr;  // never null in a parsed program
  Direction direction;
  std::vector<Operand> operands;

  const Operand* find(std::string_view key) const;
};

class Program {
 public:
  // The text may name the ops of core/ops/table.cc, or the given `ops`. Their specs must live as long as the program.
  static Status parse(std::string_view text, std::unique_ptr<Program>& program);
  static Status parse(std::string_view text, OpTable ops, std::unique_ptr<Program>& program);

  std::vector<std::string> dims;
  std::vector<std::string> scalars;
  std::vector<ProgramInput> inputs;
  std::vector<ProgramParameter> parameters;
  std::vector<ProgramBuffer> buffers;
  std::vector<ProgramOutput> outputs;
  std::vector<Instruction> instructions;
};

}  // namespace mome
