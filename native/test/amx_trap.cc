// The kernels for AMX as they are compiled, on a machine without AMX: its instructions are invalid there, and a handler
// of the signal that they raise does what Intel's manual says of them. Takes the place of core/amx.cc in a program of
// kernel tests, which therefore checks what the emulation by compilation cannot: the instructions themselves, their
// operands and the memory they read and write.
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <ucontext.h>
#include <unistd.h>

#include "core/amx.h"
#include "test/amx_manual.h"

namespace mome {
namespace {

constexpr int kRegisters = 8, kLineBytes = 64;

struct TileRegister {
  int rows;  // 0: no shape
  uint32_t word[test::kTileSide * test::kTileSide];
};
thread_local constinit TileRegister registers[kRegisters] = {};
thread_local constinit bool shaped = false;
constinit std::atomic<int> threads_with_shapes = 0;
constinit std::atomic<int64_t> done = 0;

[[noreturn]] void stop(const char* why) {
  char line[160];
  const int length = std::snprintf(line, sizeof line, "FAILED an instruction of AMX: %s\n", why);
  if (write(STDOUT_FILENO, line, static_cast<size_t>(length)) < 0) _exit(2);
  _exit(1);
}

TileRegister& usable(int number) {
  if (registers[number].rows == 0) stop("a register without a shape is used");
  return registers[number];
}

void release() {
  if (shaped) threads_with_shapes--;
  shaped = false;
  std::memset(registers, 0, sizeof registers);
}

// The 64 bytes that ldtilecfg reads: palette, row to start at, 14 reserved; bytes of a row of each register, 16 bits;
// 16 reserved; rows of each register; 8 reserved.
void shape(const uint8_t* bytes) {
  for (int i = 0; i < 64; i++) {
    const bool reserved = (i >= 2 && i < 16) || (i >= 32 && i < 48) || i >= 56;
    if (reserved && bytes[i] != 0) stop("a reserved byte of the shapes is not 0");
  }
  if (bytes[0] != 1 || bytes[1] != 0) stop("the shapes do not begin with palette 1 and row 0");
  release();
  for (int i = 0; i < kRegisters; i++) {
    const int rows = bytes[48 + i], line = bytes[16 + 2 * i] | bytes[17 + 2 * i] << 8;
    if (rows > test::kTileSide || line != (rows == 0 ? 0 : kLineBytes)) stop("a shape that these kernels do not use");
    registers[i].rows = rows;
  }
  shaped = true;
  threads_with_shapes++;
}

// General registers as instructions number them.
int64_t general(const ucontext_t& context, int number) {
  constexpr int kOrder[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                            REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  return context.uc_mcontext.gregs[kOrder[number]];
}

// One instruction with a three-byte VEX prefix, from the byte behind its opcode on.
class Operands {
 public:
  Operands(const ucontext_t& context, const uint8_t* at) : context_(context), at_(at) {
    const int low = ~at[1];
    modrm_ = at[4];
    base_high_ = (low >> 5 & 1) * 8, index_high_ = (low >> 6 & 1) * 8;
    third_ = ~at[2] >> 3 & 15;
    next_ = 5;
    if (memory()) read_address();
  }
  bool memory() const { return modrm_ >> 6 != 3; }
  int first() const { return modrm_ >> 3 & 7; }  // modrm.reg
  int second() const { return modrm_ & 7; }      // modrm.rm
  int third() const { return third_ & 7; }       // vvvv
  bool has_index() const { return has_index_; }
  uint8_t* address() const { return reinterpret_cast<uint8_t*>(address_); }
  int64_t stride() const { return index_; }
  int length() const { return next_; }

 private:
  void read_address() {
    const int mode = modrm_ >> 6;
    int base = second();
    bool has_base = true;
    if (base == 4) {
      const int sib = at_[next_++], index = (sib >> 3 & 7) + index_high_;
      base = sib & 7;
      has_index_ = index != 4;
      if (has_index_) index_ = general(context_, index) << (sib >> 6);
      has_base = !(base == 5 && mode == 0);
    } else if (base == 5 && mode == 0) {
      stop("an address that these kernels do not use");
    }
    address_ = has_base ? general(context_, base + base_high_) : 0;
    if (mode == 1) {
      address_ += static_cast<int8_t>(at_[next_]);
      next_ += 1;
    } else if (mode == 2 || !has_base) {
      int32_t offset;
      std::memcpy(&offset, at_ + next_, sizeof offset);
      address_ += offset;
      next_ += 4;
    }
  }

  const ucontext_t& context_;
  const uint8_t* at_;
  int modrm_ = 0, base_high_ = 0, index_high_ = 0, third_ = 0, next_ = 0;
  int64_t address_ = 0, index_ = 0;
  bool has_index_ = false;
};

void multiply(const Operands& operands, void (*products)(int, uint32_t*, const uint32_t*, const uint32_t*)) {
  const int s = operands.first(), x = operands.second(), y = operands.third();
  TileRegister &sum = usable(s), &a = usable(x), &b = usable(y);
  if (s == x || s == y || x == y) stop("a register is used twice");
  if (sum.rows != a.rows || b.rows != test::kTileSide) stop("shapes that do not fit each other are multiplied");
  products(sum.rows, sum.word, a.word, b.word);
}

void execute(int prefix, int opcode, const Operands& operands) {
  enum { none, p66, pf3, pf2 };
  if (opcode == 0x49 && prefix == none && operands.memory()) return shape(operands.address());
  if (opcode == 0x49 && prefix == none) return release();
  if (opcode == 0x49 && prefix == pf2 && !operands.memory()) {
    TileRegister& tile = usable(operands.first());
    std::memset(tile.word, 0, sizeof tile.word);
    return;
  }
  if (opcode == 0x4b && operands.memory() && operands.has_index() && (prefix == pf2 || prefix == pf3)) {
    TileRegister& tile = usable(operands.first());
    if (prefix == pf2) std::memset(tile.word, 0, sizeof tile.word);
    for (int r = 0; r < tile.rows; r++) {
      uint32_t* line = tile.word + r * test::kTileSide;
      uint8_t* there = operands.address() + r * operands.stride();
      prefix == pf2 ? std::memcpy(line, there, kLineBytes) : std::memcpy(there, line, kLineBytes);
    }
    return;
  }
  if (opcode == 0x5c && prefix == pf3 && !operands.memory()) return multiply(operands, test::manual_bf16_products);
  if (opcode == 0x5e && prefix == p66 && !operands.memory()) return multiply(operands, test::manual_byte_products);
  stop("one that is not known here");
}

void handle(int, siginfo_t*, void* given) {
  ucontext_t& context = *static_cast<ucontext_t*>(given);
  const auto* at = reinterpret_cast<const uint8_t*>(context.uc_mcontext.gregs[REG_RIP]);
  // Three-byte VEX, map 0F38, W = 0, 128 bits.
  if (at[0] != 0xc4 || (at[1] & 0x1f) != 2 || (at[2] & 0x84) != 0)
    stop("an instruction that is invalid and not of AMX");
  const Operands operands(context, at);
  execute(at[2] & 3, at[3], operands);
  context.uc_mcontext.gregs[REG_RIP] += operands.length();
  done++;
}

void check_at_end() {
  std::printf("%lld instructions of AMX\n", static_cast<long long>(done));
  std::fflush(stdout);
  if (done == 0) stop("none was executed");
  if (threads_with_shapes != 0) stop("a thread kept its registers");
}

}  // namespace

bool amx_usable() {
  static const bool installed = [] {
    struct sigaction action = {};
    action.sa_sigaction = handle;
    action.sa_flags = SA_SIGINFO;
    std::atexit(check_at_end);
    return sigaction(SIGILL, &action, nullptr) == 0;
  }();
  return installed;
}

}  // namespace mome
