#include "core/ops/optimizer.h"

#include "core/ops/spec.h"

namespace mome {

// Both work on lists of parameters and are called by core/training.cc: no program can call them.
constinit const OpSpec squared_norm_op = {.name = SquaredNormForward::kOp};
constinit const OpSpec adamw_op = {.name = AdamwForward::kOp};

}  // namespace mome
