#pragma once

#include <cstdint>

#include "sgd_ema.h"

namespace fastcifar {

// Chunks begin..end - 1 of a table of `count` rows. groups: of the rows' `group`. share: of the parameters in the new
// averages.
void sgd_ema_cpu(const Row* rows, int count, int32_t begin, int32_t end, const Group* groups, float share,
                 bool nesterov);

}  // namespace fastcifar
