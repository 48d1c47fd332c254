file(WRITE ${REASON} "nvcc failed when the package was built\n")
message(WARNING "fastcifar_kernels_cuda is not built: nvcc failed, as said above")
