set_tests_properties(device_replay_test PROPERTIES ENVIRONMENT
  "MOME_CUDA_LIBRARY=$<TARGET_FILE:mome_cuda_emulation>;MOME_REQUIRE=cuda;ASAN_OPTIONS=detect_leaks=0")
# The CUDA kernels' source on this processor, as devices of either generation take them. (The leak checker cannot walk fibers' stacks.)
set(MOME_NO_LEAKS ASAN_OPTIONS=detect_leaks=0)
foreach(capability 80 90)
  add_test(NAME kernels_cuda_sm${capability} COMMAND mome_kernels --mode cuda)
  set_tests_properties(kernels_cuda_sm${capability} PROPERTIES ENVIRONMENT
    "MOME_CUDA_LIBRARY=$<TARGET_FILE:mome_cuda_emulation>;MOME_REQUIRE=cuda;MOME_EMULATION_CAPABILITY=${capability};${MOME_NO_LEAKS}")
  foreach(tile 0 1 2 3)  # more than a family has: the last is then chosen by the model
    add_test(NAME kernels_cuda_sm${capability}_tile${tile} COMMAND mome_kernels --mode cuda-gemm)
    set_tests_properties(kernels_cuda_sm${capability}_tile${tile} PROPERTIES ENVIRONMENT
      "MOME_CUDA_LIBRARY=$<TARGET_FILE:mome_cuda_emulation>;MOME_REQUIRE=cuda;MOME_EMULATION_CAPABILITY=${capability};MOME_GEMM_TILE=${tile};${MOME_NO_LEAKS}")
  endforeach()
endforeach()
# A device with too little shared memory for the kernel on tensor cores.
add_test(NAME kernels_cuda_sm86_attention COMMAND mome_kernels --mode cuda --op attention --type bfloat16)
set_tests_properties(kernels_cuda_sm86_attention PROPERTIES ENVIRONMENT
  "MOME_CUDA_LIBRARY=$<TARGET_FILE:mome_cuda_emulation>;MOME_REQUIRE=cuda;MOME_EMULATION_CAPABILITY=86;${MOME_NO_LEAKS}")
# What kernels that fail leave behind.
foreach(planted "hang=waited too long for a copy to shared memory .stage 0, parity 0" "misaligned=does not begin on a multiple of 1024 bytes"
    "wrong=\"row\": 17, \"column\": 3, \"got\": -18, \"expected\": 18")
  string(REGEX MATCH "^[a-z]+" plant ${planted})
  string(REGEX REPLACE "^[a-z]+=" "" expected ${planted})
  add_test(NAME kernels_cuda_planted_${plant} COMMAND mome_kernels --mode cuda-probe)
  set_tests_properties(kernels_cuda_planted_${plant} PROPERTIES PASS_REGULAR_EXPRESSION "${expected}" ENVIRONMENT
    "MOME_CUDA_LIBRARY=$<TARGET_FILE:mome_cuda_emulation>;MOME_REQUIRE=cuda;MOME_EMULATION_PLANT=${plant};${MOME_NO_LEAKS}")
endforeach()
