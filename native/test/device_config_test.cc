// What a device's launches depend on and no device is needed for: the choice of tiles, the types of a program's values,
// the places of its buffers.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "core/arena.h"
#include "core/device_types.h"
#include "core/program.h"
#include "core/relative_position.h"
#include "cuda/config/attention_kernel.h"
#include "cuda/config/gemm_tile.h"
#include "cuda/config/trap_report.h"
#include "test/expect.h"

namespace mome {
namespace {

using test::expect;

using cuda::choose_gemm_tile;
using cuda::gemm_tiles;
using cuda::GemmChoice;
using cuda::GemmFamily;
using cuda::GemmShape;
using cuda::model_gemm_tile;
using cuda::most_row_tiles;

constexpr int kHopper = 132;

// 64 pictures of 197 tokens are 99 rows of tiles, three quarters of 132 multiprocessors: every product of the base
// model in full waves.
void sixty_four_pictures() {
  for (const auto& [columns, depth] : {std::pair<int64_t, int64_t>{768, 768}, {2304, 768}, {3072, 768}, {768, 3072}}) {
    const GemmChoice choice = choose_gemm_tile(GemmFamily::sm90, {64 * 197, columns, depth, 3}, kHopper);
    const std::string name = std::to_string(columns) + " columns of " + std::to_string(depth);
    expect(gemm_tiles(GemmFamily::sm90)[choice.tile].columns == 192, name + ": 192 columns divide all widths");
    expect(choice.waves == std::floor(choice.waves), name + ": full waves");
    expect(choice.utilisation > 0.99, name + ": nearly all products are wanted");
  }
}

void counts() {
  const GemmShape shape{130, 200, 64, 3};
  const GemmChoice choice = model_gemm_tile(GemmFamily::sm80, shape, 0, 4);  // 128 x 128
  expect(choice.tiles == 3 * 2, "a launch has tiles for three groups, two of them of one row");
  expect(choice.waves == 1, "and is taken to need those of one group: four on four multiprocessors");
  expect(std::fabs(choice.utilisation - 130.0 * 200 / (4 * 128 * 128)) < 1e-12, "products of part-filled tiles count");
}

// The most row tiles there can be, against every way to cut rows into groups.
void row_tiles() {
  for (const int64_t tile : {1, 2, 4, 7}) {
    for (int64_t rows = 0; rows <= 20; rows++) {
      for (int groups = 1; groups <= 3; groups++) {
        int64_t most = 0;
        for (int64_t first = 0; first <= rows; first++) {
          for (int64_t second = first; second <= rows; second++) {
            const int64_t ends[] = {0, groups == 3 ? first : 0, groups >= 2 ? second : 0, rows};
            int64_t tiles = 0;
            for (int i = 0; i < 3; i++) tiles += (ends[i + 1] - ends[i] + tile - 1) / tile;
            most = tiles > most ? tiles : most;
          }
        }
        expect(
            most_row_tiles(rows, groups, static_cast<int>(tile)) == most,
            std::to_string(rows) + " rows in " + std::to_string(groups) + " groups, tiles of " + std::to_string(tile));
      }
    }
  }
}

// No tile that was left out is better than the one chosen.
void best_of_all() {
  for (const int64_t count : {1, 12, 197, 640, 1576, 6304, 25216, 50432}) {
    for (const GemmFamily family : {GemmFamily::sm80, GemmFamily::sm90}) {
      const GemmShape shape{count, 2304, 768};
      const GemmChoice best = choose_gemm_tile(family, shape, kHopper);
      for (int tile = 0; tile < static_cast<int>(gemm_tiles(family).size()); tile++) {
        expect(model_gemm_tile(family, shape, tile, kHopper).cycles >= best.cycles,
               std::to_string(count) + " rows: tile " + std::to_string(tile) + " is no better");
      }
      expect(choose_gemm_tile(family, shape, kHopper, 1).tile >= 1, "tiles before the first allowed are left out");
    }
  }
  expect(cuda::gemm_family(90) == GemmFamily::sm90 && cuda::gemm_family(80) == GemmFamily::sm80 &&
             cuda::gemm_family(100) == GemmFamily::sm80,
         "code for Hopper runs on Hopper alone");
  const GemmChoice small = choose_gemm_tile(GemmFamily::sm90, {12, 2304, 768}, kHopper),
                   large = choose_gemm_tile(GemmFamily::sm90, {50432, 2304, 768}, kHopper);
  expect(small.tiles > 12, "few rows are spread over many multiprocessors");
  expect(gemm_tiles(GemmFamily::sm90)[large.tile].rows == 128, "many rows take tall tiles");
}

// Scripts ask for few multiprocessors so that blocks take several tiles in turn.
void fewer_multiprocessors() {
  unsetenv("MOME_MULTIPROCESSORS");
  expect(cuda::usable_multiprocessors(kHopper) == kHopper, "all multiprocessors are used");
  for (const auto& [given, used] : {std::pair<const char*, int>{"4", 4},
                                    {"132", kHopper},
                                    {"1000", kHopper},
                                    {"0", kHopper},
                                    {"-3", kHopper},
                                    {"", kHopper}}) {
    setenv("MOME_MULTIPROCESSORS", given, 1);
    expect(cuda::usable_multiprocessors(kHopper) == used, std::string("MOME_MULTIPROCESSORS=") + given);
  }
  unsetenv("MOME_MULTIPROCESSORS");
}

// Attention takes tensor cores where a block's shared memory holds what they need, the plain kernel where it holds
// that, and says what is missing where it holds neither.
void attention_kernels() {
  const int64_t small = RelativePosition{14, 196}.rows(), large = RelativePosition{24, 196}.rows();  // 224 and 384 px
  const auto width_of = [](int capability, bool bfloat16, int64_t head_width, int64_t table_rows) -> int64_t {
    cuda::AttentionChoice choice;
    const Status status = cuda::choose_attention(capability, bfloat16, head_width, table_rows, choice);
    if (status.ok()) {
      expect(choice.shared_bytes <= cuda::most_shared_bytes(capability), "the chosen kernel fits");
      return choice.tensor_width;
    }
    expect(status.code() == Code::unsupported, "what does not fit is refused as unsupported");
    expect(status.message().find(std::to_string(head_width)) != std::string::npos &&
               status.message().find(std::to_string(table_rows)) != std::string::npos,
           "and named: " + status.message());
    return -1;
  };
  for (const int capability : {80, 86, 87, 89, 90, 100, 120, 999}) {
    const std::string name = "capability " + std::to_string(capability) + ": ";
    const bool little = capability == 86 || capability == 89 || capability == 120 || capability == 999;
    for (const auto& [head_width, kernel] :
         {std::pair<int64_t, int64_t>{7, 16}, {16, 16}, {34, 48}, {64, 64}, {65, 128}, {128, 128}}) {
      expect(width_of(capability, true, head_width, 0) == kernel,
             name + "heads of " + std::to_string(head_width) + " without a table");
      expect(width_of(capability, false, head_width, large) == 0, name + "float32 rows take the plain kernel");
    }
    expect(width_of(capability, true, 64, large) == 64, name + "heads of 64 at 384 px");
    expect(width_of(capability, true, 128, small) == 128, name + "heads of 128 at 224 px");
    expect(width_of(capability, true, 128, large) == (little ? 0 : 128), name + "heads of 128 at 384 px");
    expect(width_of(capability, true, 136, large) == 0, name + "heads wider than any kernel on tensor cores");
    expect(width_of(capability, true, 256, large) == (little ? -1 : 0), name + "heads of 256 at 384 px");
    expect(width_of(capability, false, 512, large) == -1, name + "heads of 512");
  }
}

// What a kernel left behind is said in words.
void traps() {
  using cuda::describe_trap, cuda::Trap, cuda::trap_word;
  expect(describe_trap(0).empty(), "nothing was left behind");
  const std::string waited = describe_trap(trap_word(Trap::bytes_never_came, 131, 7, 1));
  expect(waited == "block 131 waited too long for a copy to shared memory (stage 7, parity 1)", waited);
  const std::string readers = describe_trap(trap_word(Trap::readers_never_left, 4000000000u, 0, 0));
  expect(readers == "block 4000000000 waited too long for the readers of a slice (stage 0, parity 0)", readers);
  const std::string misaligned = describe_trap(trap_word(Trap::misaligned, 0, 0, 0));
  expect(misaligned == "block 0 has shared memory that does not begin on a multiple of 1024 bytes", misaligned);
  expect(describe_trap(~uint64_t{0}).find("not known") != std::string::npos, "a word that no kernel writes");
}

// Only the exact word leaves the epilogue out: results are wrong without it.
void without_epilogue() {
  unsetenv("MOME_GEMM_EPILOGUE");
  expect(!cuda::gemm_without_epilogue(), "epilogues run");
  for (const auto& [given, without] :
       {std::pair<const char*, bool>{"none", true}, {"", false}, {"1", false}, {"nonexistent", false}}) {
    setenv("MOME_GEMM_EPILOGUE", given, 1);
    expect(cuda::gemm_without_epilogue() == without, std::string("MOME_GEMM_EPILOGUE=") + given);
  }
  unsetenv("MOME_GEMM_EPILOGUE");
}

constexpr const char* kProgram = R"(mome-program 1
dims n
input ids i32 n
input index i32 n
param word 9*16
param segment 1*16
param gamma 16
param beta 16
param type 1*16
param weight 4*16
buffer 0 f32 n*16 live 0 3
buffer 1 f32 n*16 rows 0 1
buffer 2 f32 n*16 live 1 2
buffer 3 f32 n*4 live 2 3
buffer 4 f32 n*4 live 3 3
output y 4
op text_embed.forward ids=$ids index=$index word=@word segment=@segment gamma=@gamma beta=@beta type=@type dropout=0 seed=0 out=%0
op layer_norm.forward x=%0 gamma=@gamma beta=@beta y=%2
op linear.forward x=%2 weight=@weight y=%3
op tanh.forward x=%3 y=%4
)";

void types() {
  std::unique_ptr<Program> program;
  std::string text = kProgram;
  text.replace(text.find("buffer 1 f32 n*16 rows 0 1"), 26, "buffer 1 f32 1*16 rows 0 1");
  expect(Program::parse(text, program).ok(), "the program is read");
  if (!program) return;
  std::vector<WeightType> values, rows;
  expect(infer_types(*program, WeightType::bf16, values, rows).ok(), "types are found");
  expect(values[0] == WeightType::bf16 && values[1] == WeightType::bf16 && values[2] == WeightType::bf16,
         "rows of the encoder are bfloat16, and views of them");
  expect(values[3] == WeightType::f32 && values[4] == WeightType::f32, "heads are float32");
  expect(rows[2] == WeightType::bf16 && rows[3] == WeightType::f32, "each op is told what it reads");
  expect(infer_types(*program, WeightType::i8, values, rows).code() == Code::unsupported, "int8 is refused");
  expect(infer_types(*program, WeightType::f32, values, rows).ok() && values[0] == WeightType::f32,
         "float32 stays float32");

  const int64_t dims[] = {5};
  ArenaPlan wide, narrow;
  std::vector<WeightType> halves;
  expect(infer_types(*program, WeightType::bf16, halves, rows).ok(), "types are found again");
  expect(plan_arena(*program, dims, {}, wide).ok() && plan_arena(*program, dims, halves, narrow).ok(),
         "both arenas are planned");
  expect(wide.offsets[1] - wide.offsets[0] == 64 && narrow.offsets[1] - narrow.offsets[0] == 32,
         "a view begins where its row does");
  expect(narrow.bytes < wide.bytes, "bfloat16 takes less");
  for (size_t i = 0; i < 3; i++) expect(narrow.offsets[i] % 16 == 0, "rows may be read in 16-byte pieces");

  // tanh reads float32 alone.
  text.replace(text.find("op tanh.forward x=%3"), 20, "op tanh.forward x=%2");
  text.replace(text.find("buffer 4 f32 n*4 live 3 3"), 25, "buffer 4 f32 n*16 live 3 3");
  text.replace(text.find("buffer 2 f32 n*16 live 1 2"), 26, "buffer 2 f32 n*16 live 1 3");
  expect(Program::parse(text, program).ok() &&
             infer_types(*program, WeightType::bf16, values, rows).code() == Code::unsupported,
         "an op that does not read bfloat16 is refused its rows");
}

}  // namespace
}  // namespace mome

int main() {
  mome::sixty_four_pictures();
  mome::counts();
  mome::row_tiles();
  mome::best_of_all();
  mome::fewer_multiprocessors();
  mome::attention_kernels();
  mome::traps();
  mome::without_epilogue();
  mome::types();
  std::printf("device_config: %s\n", mome::test::failures == 0 ? "passed" : "FAILED");
  return mome::test::failures == 0 ? 0 : 1;
}
