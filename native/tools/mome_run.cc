// mome_run <manifest> [--device cpu|cuda] [--target T] [--dtype float32|bfloat16] [--repeat N] [--out FILE] [--profile]
//
// Runs a lowered program without Node: what a GPU machine needs to check and measure. The manifest is text, one item per line:
//   program <file>                      a lowered graph (core/program.h)
//   blob <file>                         raw values, little-endian, that offsets below count from
//   dim <name> <value>
//   input <name> <f32|i32|u8> <count> <offset | random>
//   weight <name> <sizes joined by x> <offset>
//   random_weights                      normal ones, deviation 0.02 (scales: about 1), for every parameter the program names
//   between                             dims and inputs that follow are another run's, made before each of the one above
// Writes the outputs of the last run of the first kind as float32, one after the other, to FILE, and a JSON report to standard output: names and
// sizes of the outputs, seconds of each such run from inputs in this processor's memory to outputs there, and with --profile nanoseconds by op.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "core/engine.h"

namespace mome {
namespace {

struct Options {
  std::string manifest, device = "cpu", dtype = "float32", out, target;
  int repeat = 1;
  bool profile = false;
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
  };
  std::vector<Run> runs = {{}};  // the one asked for, then those between
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
  std::mt19937 random(7);
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string kind, name;
    words >> kind >> name;
    if (kind == "program" || kind == "blob") {
      std::vector<char> content = read_file(name);
      if (content.empty()) return error(Code::not_found, "%s: expected a file %s", path.c_str(), name.c_str());
      if (kind == "program") manifest.program.assign(content.begin(), content.end());
      else manifest.blob = std::move(content);
    } else if (kind == "dim") {
      words >> manifest.runs.back().dims[name];
    } else if (kind == "between") {
      manifest.runs.emplace_back();
    } else if (kind == "input") {
      std::string type, from;
      Manifest::Input input{};
      words >> type >> input.count >> from;
      input.type = type == "f32" ? ElementType::f32 : type == "i32" ? ElementType::i32 : ElementType::u8;
      input.bytes.resize(input.count * (type == "u8" ? 1 : 4));
      if (from == "random") {
        for (char& byte : input.bytes) byte = static_cast<char>(random());
      } else {
        const size_t offset = std::strtoull(from.c_str(), nullptr, 10);
        if (offset > manifest.blob.size() || input.bytes.size() > manifest.blob.size() - offset) return error(Code::invalid_file, "%s: %s lies outside the blob", path.c_str(), name.c_str());
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
      if (weight.offset > manifest.blob.size() || static_cast<size_t>(weight.count) * 4 > manifest.blob.size() - weight.offset) {
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

Status fill_weights(const Manifest& manifest, const Program& program, WeightStore& store) {
  for (const Manifest::Weight& weight : manifest.weights) {
    MOME_RETURN_IF_ERROR(store.add(weight.name, weight.shape, reinterpret_cast<const float*>(manifest.blob.data() + weight.offset), weight.count));
  }
  if (!manifest.random_weights) return {};
  std::mt19937 random(11);
  std::normal_distribution<float> normal(0, 0.02f);
  for (const ProgramParameter& parameter : program.parameters) {
    std::vector<int64_t> shape;
    int64_t count = 1;
    for (const Extent& extent : parameter.shape) {
      shape.push_back(extent.size);
      count *= extent.size;
    }
    std::vector<float> values(static_cast<size_t>(count));
    // Scales lie about 1, so that signals live through the layers.
    const bool scale = shape.size() == 1 && (parameter.name.find("gamma") != std::string::npos ||
                                             (parameter.name.find("norm") != std::string::npos && parameter.name.ends_with("weight")));
    for (float& value : values) value = normal(random) + (scale ? 1.0f : 0.0f);
    MOME_RETURN_IF_ERROR(store.add(parameter.name, shape, values.data(), count));
  }
  return {};
}

Status request_of(const Program& program, const Manifest::Run& run, RunRequest& request) {
  for (const std::string& name : program.dims) {
    const auto found = run.dims.find(name);
    if (found == run.dims.end()) return error(Code::invalid_argument, "expected dimension %s in the manifest", name.c_str());
    request.dims.push_back(found->second);
  }
  for (const ProgramInput& input : program.inputs) {
    const auto found = run.inputs.find(input.name);
    if (found == run.inputs.end()) return error(Code::invalid_argument, "expected input %s in the manifest", input.name.c_str());
    request.inputs.push_back({found->second.type, found->second.bytes.data(), found->second.count});
  }
  return {};
}

Status run(const Options& options) {
  Manifest manifest;
  MOME_RETURN_IF_ERROR(read_manifest(options.manifest, manifest));
  Target target = best_target();
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
  } else if (!options.target.empty() && !parse_target(options.target, target)) {
    return error(Code::invalid_argument, "expected a target, got %s", options.target.c_str());
  }
  WeightType type;
  if (!parse_weight_type(options.dtype, type)) return error(Code::invalid_argument, "expected a type of weights, got %s", options.dtype.c_str());

  std::unique_ptr<Program> program;
  MOME_RETURN_IF_ERROR(Program::parse(manifest.program, program));
  Engine engine(0, target, device);
  WeightStore store(type);
  MOME_RETURN_IF_ERROR(fill_weights(manifest, *program, store));
  std::shared_ptr<CompiledProgram> compiled;
  MOME_RETURN_IF_ERROR(CompiledProgram::create(manifest.program, store, target, compiled));
  std::vector<RunRequest> requests(manifest.runs.size());
  for (size_t i = 0; i < requests.size(); i++) MOME_RETURN_IF_ERROR(request_of(*program, manifest.runs[i], requests[i]));
  RunRequest& request = requests[0];

  std::vector<double> seconds;
  RunResult result, between;
  for (int i = 0; i < options.repeat; i++) {
    for (size_t other = 1; other < requests.size(); other++) MOME_RETURN_IF_ERROR(engine.run(*compiled, store, requests[other], between));
    const auto started = std::chrono::steady_clock::now();
    MOME_RETURN_IF_ERROR(engine.run(*compiled, store, request, result));
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count());
  }
  std::printf("{\"device\": \"%s\", \"dtype\": \"%s\", \"outputs\": [", where.c_str(), options.dtype.c_str());
  for (size_t i = 0; i < result.outputs.size(); i++) {
    std::printf("%s{\"name\": \"%s\", \"count\": %zu}", i == 0 ? "" : ", ", program->outputs[i].name.c_str(), result.outputs[i].size());
  }
  std::printf("], \"seconds\": [");
  for (size_t i = 0; i < seconds.size(); i++) std::printf("%s%.7g", i == 0 ? "" : ", ", seconds[i]);
  std::printf("], \"arenaBytes\": %zu", engine.arena_bytes());
  if (options.profile) {
    request.profile = true;
    RunResult profiled;
    std::map<std::string, double> by_op;
    MOME_RETURN_IF_ERROR(engine.run(*compiled, store, request, profiled));
    for (size_t i = 0; i < profiled.nanoseconds.size(); i++) by_op[std::string(op_name(program->instructions[i].op))] += profiled.nanoseconds[i];
    std::printf(", \"nanoseconds\": {");
    const char* comma = "";
    for (const auto& [op, nanoseconds] : by_op) {
      std::printf("%s\"%s\": %.0f", comma, op.c_str(), nanoseconds);
      comma = ", ";
    }
    std::printf("}");
  }
  std::printf("}\n");
  if (options.out.empty()) return {};
  std::ofstream file(options.out, std::ios::binary);
  for (const std::vector<float>& values : result.outputs) file.write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(float)));
  return file ? Status() : error(Code::io, "%s: could not be written", options.out.c_str());
}

}  // namespace
}  // namespace mome

int main(int count, char** arguments) {
  mome::Options options;
  for (int i = 1; i < count; i++) {
    const std::string word = arguments[i];
    if (word == "--profile") options.profile = true;
    else if (word.starts_with("--") && i + 1 < count) {
      const std::string value = arguments[++i];
      if (word == "--device") options.device = value;
      else if (word == "--target") options.target = value;
      else if (word == "--dtype") options.dtype = value;
      else if (word == "--out") options.out = value;
      else if (word == "--repeat") options.repeat = std::atoi(value.c_str());
      else return std::fprintf(stderr, "mome_run: unknown option %s\n", word.c_str()), 2;
    } else options.manifest = word;
  }
  if (options.manifest.empty() || options.repeat < 1) return std::fprintf(stderr, "usage: mome_run <manifest> [--device cpu|cuda] [--target T] [--dtype D] [--repeat N] [--out FILE] [--profile]\n"), 2;
  const mome::Status status = mome::run(options);
  if (status.ok()) return 0;
  std::fprintf(stderr, "mome_run: %s (%s)\n", status.message().c_str(), std::string(mome::code_name(status.code())).c_str());
  return 1;
}
