#pragma once

#include <cstdint>

namespace fastcifar {

// The type of the numbers that a kernel writes; what comes before is float32.
enum class Store : int32_t { float32, float16, bfloat16 };

}  // namespace fastcifar
