#pragma once

#include <cstring>

// A function for every x86-64 machine: the loader picks the version that fits.
#if defined(FASTCIFAR_TARGET_CLONES)
#define CLONED __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONED
#endif
#define INLINED inline __attribute__((always_inline))  // so that what it becomes is compiled for the caller's machine

namespace fastcifar {

template <typename Vector>
INLINED Vector load(const float* place) {
  Vector vector;
  std::memcpy(&vector, place, sizeof vector);
  return vector;
}

template <typename Vector>
INLINED void store(float* place, const Vector& vector) {
  std::memcpy(place, &vector, sizeof vector);
}

}  // namespace fastcifar
