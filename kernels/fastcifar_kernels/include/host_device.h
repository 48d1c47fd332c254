#pragma once

// What both compilers must see: nvcc compiles these functions for host and device, g++ for the host alone.
#ifdef __CUDACC__
#define HOST_DEVICE __host__ __device__ __forceinline__
#else
#define HOST_DEVICE inline __attribute__((always_inline))
#endif
