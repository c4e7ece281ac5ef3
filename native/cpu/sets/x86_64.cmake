# The instruction sets of x86-64 and their flags (CMakeLists.txt says what is made of them).
set(MOME_FLAGS_avx2 -mavx2 -mfma -mf16c -mbmi2)
set(MOME_FLAGS_avx2_vnni ${MOME_FLAGS_avx2} -mavxvnni)
set(MOME_FLAGS_avx512 -mavx512f -mavx512bw -mavx512vl -mavx512dq -mfma -mf16c -mbmi2 -mprefer-vector-width=512)
set(MOME_FLAGS_avx512_vnni ${MOME_FLAGS_avx512} -mavx512vnni)
set(MOME_FLAGS_avx512_bf16 ${MOME_FLAGS_avx512_vnni} -mavx512bf16)
set(MOME_FLAGS_amx ${MOME_FLAGS_avx512_bf16} -mamx-tile -mamx-bf16 -mamx-int8)
# The set whose objects serve where the additional instructions are of no use.
set(MOME_BASE_avx2 avx2)
set(MOME_BASE_avx2_vnni avx2)
set(MOME_BASE_avx512 avx512)
set(MOME_BASE_avx512_vnni avx512)
set(MOME_BASE_avx512_bf16 avx512)
set(MOME_BASE_amx avx512)
# The set whose attention serves, where it is the same.
set(MOME_ATTENTION_avx2 avx2)
set(MOME_ATTENTION_avx2_vnni avx2_vnni)
set(MOME_ATTENTION_avx512 avx512)
set(MOME_ATTENTION_avx512_vnni avx512_vnni)
set(MOME_ATTENTION_avx512_bf16 avx512_bf16)
set(MOME_ATTENTION_amx avx512_bf16)
# The first is always built, the others where the compiler knows their flags.
set(MOME_FIRST_SET avx2)
set(MOME_FURTHER_SETS avx2_vnni)
if(MOME_AVX512)
  list(APPEND MOME_FURTHER_SETS avx512 avx512_vnni avx512_bf16 amx)
endif()
# The sets whose instructions differ for the products of 8-bit rows of a search.
set(MOME_SCAN_SETS avx2 avx2_vnni avx512_vnni)
# What the compiler warns of in its own headers: g++ 12 of uninitialized values inside those of AVX-512.
foreach(instruction_set avx512 avx512_vnni avx512_bf16 amx)
  set(MOME_QUIET_${instruction_set} -Wno-maybe-uninitialized -Wno-uninitialized)
endforeach()
