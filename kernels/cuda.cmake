# fastcifar_kernels_cuda.so through nvcc itself: CMake's own CUDA language would end the build where nvcc or the compiler
# behind it fails. sm_80 and sm_90 as machine code, PTX for what comes later.
find_program(NVCC nvcc HINTS ENV CUDA_HOME PATHS /usr/local/cuda/bin)
if(NOT NVCC)
  skip(fastcifar_kernels_cuda "no nvcc was found")
  return()
endif()

set(library ${CMAKE_CURRENT_BINARY_DIR}/fastcifar_kernels_cuda.so)
set(reason ${CMAKE_CURRENT_BINARY_DIR}/fastcifar_kernels_cuda.txt)
set(command ${NVCC} -shared -o ${library} ${CUDA_SOURCES} -std=c++17 -O3 --threads 0 -ccbin ${CMAKE_CXX_COMPILER}
    -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90,code=[sm_90,compute_90]
    -Xcompiler -fPIC,-fvisibility=hidden -D${TORCH_TARGET} -DUSE_CUDA)
foreach(folder ${INCLUDES})
  list(APPEND command -I${folder})
endforeach()
# One option: of a separate one, nvcc would write the libraries first and the flag, which must come before them, last.
list(APPEND command -Xlinker --no-as-needed,$<TARGET_FILE:torch_cpu>,$<TARGET_FILE:torch_cuda>)

add_custom_command(OUTPUT ${library}.attempted
  COMMAND ${command} || ${CMAKE_COMMAND} -DREASON=${reason} -P ${CMAKE_CURRENT_SOURCE_DIR}/nvcc_failed.cmake
  COMMAND ${CMAKE_COMMAND} -E touch ${library}.attempted
  DEPENDS ${CUDA_SOURCES} torch_cpu torch_cuda VERBATIM COMMENT "nvcc: fastcifar_kernels_cuda.so")
add_custom_target(fastcifar_kernels_cuda ALL DEPENDS ${library}.attempted)
install(FILES ${library} ${reason} DESTINATION fastcifar_kernels OPTIONAL)
