# The instruction sets of 64-bit Arm and their flags (CMakeLists.txt says what is made of them). Every such processor has NEON with fused
# multiply-adds in float32.
set(MOME_FLAGS_neon)
set(MOME_FLAGS_neon_dot -march=armv8.2-a+dotprod)
set(MOME_FLAGS_neon_bf16 -march=armv8.2-a+dotprod+bf16)
# The set whose objects serve where the additional instructions are of no use.
set(MOME_BASE_neon neon)
set(MOME_BASE_neon_dot neon)
set(MOME_BASE_neon_bf16 neon)
# The set whose attention serves, where it is the same: products of bytes are none of attention's.
set(MOME_ATTENTION_neon neon)
set(MOME_ATTENTION_neon_dot neon)
set(MOME_ATTENTION_neon_bf16 neon_bf16)
# The first is always built, the others where the compiler knows their flags.
set(MOME_FIRST_SET neon)
set(MOME_FURTHER_SETS neon_dot neon_bf16)
# The sets whose instructions differ for the products of 8-bit rows of a search.
set(MOME_SCAN_SETS neon neon_dot)
