// mome_run <manifest> [--device cpu|cuda] [--target T] [--dtype float32|bfloat16] [--repeat N] [--out FILE] [--profile]
// [--overlap]
//
// Runs a lowered program without Node, so that machines that have a GPU and no Node can check and measure it. The
// manifest is text, one item per line:
//   program <file>                      a lowered graph (core/program.h)
//   blob <file>                         raw values, little-endian, that offsets below count from
//   dim <name> <value>
//   input <name> <f32|i32|u8> <count> <offset | random>
//   weight <name> <sizes joined by x> <offset>
//   random_weights                      normal values of deviation 0.02 (scales: about 1) for every parameter of the
//                                       program
//   repeat <times>                      of this run, instead of --repeat
//   between                             dims and inputs that follow belong to another run, done before each repetition
//                                       of the run above
//   next                                dims and inputs that follow belong to another run, measured after the run above
//                                       with the same weights
//
// The outputs of each measured run's last repetition go to FILE as float32, one after the other. When a run is done, a
// line of JSON goes to standard output: names and sizes of its outputs, and the seconds of each repetition, from inputs
// in this processor's memory to outputs there. --profile adds nanoseconds by op, --overlap adds seconds per run while
// two runs are under way at a time.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <future>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "core/engine.h"
#include "core/ops/spec.h"
#include "core/random.h"
#include "core/self_check.h"

namespace mome {
namespace {

struct Options {
  std::string manifest, device = "cpu", dtype = "float32", out, target;
  int repeat = 1;
  bool profile = false, overlap = false;
};

struct Manifest {
  std::string program;
  std::vector<char> blob;
  struct Input {
    ElementType type;
    std::vector<char> bytes;
    size_t count;
  };
  struct Run {
    std::map<std::string, int64_t> dims;
    std::map<std::string, Input> inputs;
    int repeat = 0;        // 0: as the options say
    bool between = false;  // made before each of the last run above that is not
  };
  std::vector<Run> runs = {{}};
  struct Weight {
    std::string name;
    std::vector<int64_t> shape;
    int64_t count;
    size_t offset;
  };
  std::vector<Weight> weights;
  bool random_weights = false;
};

std::vector<char> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

Status read_manifest(const std::string& path, Manifest& manifest) {
  std::ifstream file(path);
  if (!file) return error(Code::not_found, "%s: expected a manifest", path.c_str());
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string kind, name;
    words >> kind >> name;
    if (kind == "program" || kind == "blob") {
      std::vector<char> content = read_file(name);
      if (content.empty()) return error(Code::not_found, "%s: expected a file %s", path.c_str(), name.c_str());
      if (kind == "program")
        manifest.program.assign(content.begin(), content.end());
      else
        manifest.blob = std::move(content);
    } else if (kind == "dim") {
      words >> manifest.runs.back().dims[name];
    } else if (kind == "repeat") {
      manifest.runs.back().repeat = std::atoi(name.c_str());
    } else if (kind == "between" || kind == "next") {
      manifest.runs.emplace_back().between = kind == "between";
    } else if (kind == "input") {
      std::string type, from;
      Manifest::Input input{};
      words >> type >> input.count >> from;
      input.type = type == "f32" ? ElementType::f32 : type == "i32" ? ElementType::i32 : ElementType::u8;
      input.bytes.resize(input.count * (type == "u8" ? 1 : 4));
      if (from == "random") {
        for (size_t i = 0; i < input.bytes.size(); i++) input.bytes[i] = static_cast<char>(mix(i + 1));
      } else {
        const size_t offset = std::strtoull(from.c_str(), nullptr, 10);
        if (offset > manifest.blob.size() || input.bytes.size() > manifest.blob.size() - offset)
          return error(Code::invalid_file, "%s: %s lies outside the blob", path.c_str(), name.c_str());
        if (!input.bytes.empty()) std::memcpy(input.bytes.data(), manifest.blob.data() + offset, input.bytes.size());
      }
      manifest.runs.back().inputs[name] = std::move(input);
    } else if (kind == "weight") {
      std::string sizes;
      Manifest::Weight weight{name, {}, 1, 0};
      words >> sizes >> weight.offset;
      std::istringstream parts(sizes);
      for (std::string size; std::getline(parts, size, 'x');) {
        weight.shape.push_back(std::atoll(size.c_str()));
        weight.count *= weight.shape.back();
      }
      if (weight.offset > manifest.blob.size() ||
          static_cast<size_t>(weight.count) * 4 > manifest.blob.size() - weight.offset) {
        return error(Code::invalid_file, "%s: %s lies outside the blob", path.c_str(), name.c_str());
      }
      manifest.weights.push_back(std::move(weight));
    } else if (kind == "random_weights") {
      manifest.random_weights = true;
    } else if (!kind.empty()) {
      return error(Code::invalid_file, "%s: expected another word than %s", path.c_str(), kind.c_str());
    }
  }
  return {};
}

// Sum of four uniform numbers from the 16-bit pieces of one hash, deviation 1: nearly normal, and hundreds of millions
// take no time.
float nearly_normal(uint64_t seed, uint64_t index) {
  const uint64_t bits = mix(mix(seed) + index);
  const auto piece = [bits](int i) { return static_cast<float>(bits >> (16 * i) & 0xffff) * 0x1p-16f; };
  return (piece(0) + piece(1) + piece(2) + piece(3) - 2) * 1.7320508f;
}

Status fill_weights(const Manifest& manifest, const Program& program, ThreadPool& pool, WeightStore& store) {
  for (const Manifest::Weight& weight : manifest.weights) {
    MOME_RETURN_IF_ERROR(store.add(weight.name, weight.shape,
                                   reinterpret_cast<const float*>(manifest.blob.data() + weight.offset), weight.count));
  }
  if (!manifest.random_weights) return {};
  uint64_t seed = 11;
  for (const ProgramParameter& parameter : program.parameters) {
    std::vector<int64_t> shape;
    int64_t count = 1;
    for (const Extent& extent : parameter.shape) {
      shape.push_back(extent.size);
      count *= extent.size;
    }
    std::vector<float> values(static_cast<size_t>(count));
    // Scales lie about 1, so that signals live through the layers.
    const bool scale =
        shape.size() == 1 && (parameter.name.find("gamma") != std::string::npos ||
                              (parameter.name.find("norm") != std::string::npos && parameter.name.ends_with("weight")));
    constexpr int64_t kPiece = 1 << 16;
    seed++;
    pool.parallel_for((count + kPiece - 1) / kPiece, [&](int64_t piece, int) {
      const int64_t end = std::min(count, (piece + 1) * kPiece);
      for (int64_t i = piece * kPiece; i < end; i++)
        values[i] = 0.02f * nearly_normal(seed, static_cast<uint64_t>(i)) + (scale ? 1.0f : 0.0f);
    });
    MOME_RETURN_IF_ERROR(store.add(parameter.name, shape, values.data(), count));
  }
  return {};
}

Status request_of(const Program& program, const Manifest::Run& run, RunRequest& request) {
  for (const std::string& name : program.dims) {
    const auto found = run.dims.find(name);
    if (found == run.dims.end())
      return error(Code::invalid_argument, "expected dimension %s in the manifest", name.c_str());
    request.dims.push_back(found->second);
  }
  for (const ProgramInput& input : program.inputs) {
    const auto found = run.inputs.find(input.name);
    if (found == run.inputs.end())
      return error(Code::invalid_argument, "expected input %s in the manifest", input.name.c_str());
    request.inputs.push_back({found->second.type, found->second.bytes.data(), found->second.count});
  }
  return {};
}

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point started) {
  return std::chrono::duration<double>(Clock::now() - started).count();
}

void print_list(const char* name, const std::vector<double>& values) {
  std::printf(", \"%s\": [", name);
  for (size_t i = 0; i < values.size(); i++) std::printf("%s%.7g", i == 0 ? "" : ", ", values[i]);
  std::printf("]");
}

// What is run: a program with its weights on an engine.
struct Model {
  Engine& engine;
  const Program& program;
  CompiledProgram& compiled;
  WeightStore& store;

  Status run(const RunRequest& request, RunResult& result) { return engine.run(compiled, store, request, result); }
};

// Seconds per run of `count` that are handed over at once: a device has two of them under way at a time.
Status overlapped(Model& model, const RunRequest& request, int count, double& seconds) {
  std::vector<std::future<Status>> ends;
  const auto started = Clock::now();
  for (int i = 0; i < count; i++) {
    const auto end = std::make_shared<std::promise<Status>>();
    ends.push_back(end->get_future());
    model.engine.post(
        [&model, &request, end] {
          RunResult result;
          end->set_value(model.run(request, result));
        },
        true);
  }
  Status status;
  for (std::future<Status>& end : ends) {
    if (Status each = end.get(); status.ok()) status = std::move(each);
  }
  seconds = seconds_since(started) / count;
  return status;
}

Status profile(Model& model, RunRequest request) {
  RunResult profiled;
  std::map<std::string, double> by_op;
  request.profile = true;
  MOME_RETURN_IF_ERROR(model.run(request, profiled));
  for (size_t i = 0; i < profiled.nanoseconds.size(); i++)
    by_op[std::string(model.program.instructions[i].op->name)] += profiled.nanoseconds[i];
  std::printf(", \"nanoseconds\": {");
  const char* comma = "";
  for (const auto& [op, nanoseconds] : by_op) {
    std::printf("%s\"%s\": %.0f", comma, op.c_str(), nanoseconds);
    comma = ", ";
  }
  std::printf("}");
  return {};
}

// Measures runs[first], with the runs between that follow it, and prints its line.
Status measure(Model& model, const Options& options, const std::string& where, const std::vector<Manifest::Run>& runs,
               size_t first, std::ofstream& out) {
  std::vector<RunRequest> requests;
  for (size_t i = first; i < runs.size() && (i == first || runs[i].between); i++)
    MOME_RETURN_IF_ERROR(request_of(model.program, runs[i], requests.emplace_back()));
  const int repeat = runs[first].repeat > 0 ? runs[first].repeat : options.repeat;
  std::vector<double> seconds;
  RunResult result, between;
  for (int i = 0; i < repeat; i++) {
    for (size_t other = 1; other < requests.size(); other++) MOME_RETURN_IF_ERROR(model.run(requests[other], between));
    const auto started = Clock::now();
    MOME_RETURN_IF_ERROR(model.run(requests[0], result));
    seconds.push_back(seconds_since(started));
  }
  std::printf("{\"device\": \"%s\", \"dtype\": \"%s\", \"outputs\": [", where.c_str(), options.dtype.c_str());
  for (size_t i = 0; i < result.outputs.size(); i++) {
    std::printf("%s{\"name\": \"%s\", \"count\": %zu}", i == 0 ? "" : ", ", model.program.outputs[i].name.c_str(),
                result.outputs[i].size());
  }
  std::printf("]");
  print_list("seconds", seconds);
  std::printf(", \"arenaBytes\": %zu", model.engine.arena_bytes());
  if (options.profile) MOME_RETURN_IF_ERROR(profile(model, requests[0]));
  if (options.overlap) {
    std::vector<double> together(3);  // the first makes the recordings of the second lane
    for (double& each : together) MOME_RETURN_IF_ERROR(overlapped(model, requests[0], std::max(4, repeat), each));
    print_list("overlapped", {together.begin() + 1, together.end()});
  }
  std::printf("}\n");
  std::fflush(stdout);  // a later run that does not end takes nothing of this one
  for (const std::vector<float>& values : result.outputs)
    out.write(reinterpret_cast<const char*>(values.data()),
              static_cast<std::streamsize>(values.size() * sizeof(float)));
  return {};
}

Status run(const Options& options) {
  Manifest manifest;
  MOME_RETURN_IF_ERROR(read_manifest(options.manifest, manifest));
  Target target = Target::ref;
  std::shared_ptr<Device> device;
  std::string where = "cpu";
  if (options.device == "cuda") {
    target = Target::cuda;
    const DeviceLibrary& library = device_library();
    if (library.api == nullptr) return error(Code::device_unavailable, "no CUDA library: %s", library.reason.c_str());
    MOME_RETURN_IF_ERROR(library.api->open({}, device));
    DeviceDescription description;
    MOME_RETURN_IF_ERROR(library.api->describe(0, description));
    where = description.name;
  } else if (options.target.empty()) {
    target = chosen_target().target;
    for (const Target rejected : chosen_target().rejected) {
      std::fprintf(stderr, "mome_run: the self-check of %s failed: %s\n", target_name(rejected).data(),
                   target_check(rejected).wrong.c_str());
    }
  } else if (!parse_target(options.target, target)) {
    return error(Code::invalid_argument, "expected a target, got %s", options.target.c_str());
  }
  WeightType type;
  if (!parse_weight_type(options.dtype, type))
    return error(Code::invalid_argument, "expected a type of weights, got %s", options.dtype.c_str());

  std::unique_ptr<Program> program;
  MOME_RETURN_IF_ERROR(Program::parse(manifest.program, program));
  // Runs that overlap hold their threads together: half of the cores each.
  Engine engine(device ? std::max(1, available_cores() / 2) : 0, target, device);
  WeightStore store(type);
  MOME_RETURN_IF_ERROR(fill_weights(manifest, *program, engine.pool(), store));
  std::shared_ptr<CompiledProgram> compiled;
  MOME_RETURN_IF_ERROR(CompiledProgram::create(manifest.program, store, target, compiled));
  Model model{engine, *program, *compiled, store};
  std::ofstream out;
  if (!options.out.empty()) out.open(options.out, std::ios::binary);
  for (size_t i = 0; i < manifest.runs.size(); i++) {
    if (!manifest.runs[i].between) MOME_RETURN_IF_ERROR(measure(model, options, where, manifest.runs, i, out));
  }
  if (!options.out.empty() && !out.flush()) return error(Code::io, "%s: could not be written", options.out.c_str());
  return {};
}

}  // namespace
}  // namespace mome

int main(int count, char** arguments) {
  mome::Options options;
  for (int i = 1; i < count; i++) {
    const std::string word = arguments[i];
    if (word == "--profile")
      options.profile = true;
    else if (word == "--overlap")
      options.overlap = true;
    else if (word.starts_with("--") && i + 1 < count) {
      const std::string value = arguments[++i];
      if (word == "--device")
        options.device = value;
      else if (word == "--target")
        options.target = value;
      else if (word == "--dtype")
        options.dtype = value;
      else if (word == "--out")
        options.out = value;
      else if (word == "--repeat")
        options.repeat = std::atoi(value.c_str());
      else
        return std::fprintf(stderr, "mome_run: unknown option %s\n", word.c_str()), 2;
    } else
      options.manifest = word;
  }
  if (options.manifest.empty() || options.repeat < 1)
    return std::fprintf(stderr,
                        "usage: mome_run <manifest> [--device cpu|cuda] [--target T] [--dtype D] [--repeat N]\n"
                        "                [--out FILE] [--profile] [--overlap]\n"),
           2;
  const mome::Status status = mome::run(options);
  if (status.ok()) return 0;
  std::fprintf(stderr, "mome_run: %s (%s)\n", status.message().c_str(),
               std::string(mome::code_name(status.code())).c_str());
  return 1;
}
