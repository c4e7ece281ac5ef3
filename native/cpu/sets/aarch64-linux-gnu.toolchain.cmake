# Compiles for 64-bit Arm Linux on another machine, with the cross compiler of the distribution (Debian: g++-aarch64-linux-gnu).
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
# Programs are those of this machine, libraries and headers those of the other.
set(CMAKE_FIND_ROOT_PATH /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
# Tests run emulated where QEMU is.
find_program(MOME_QEMU_AARCH64 qemu-aarch64)
if(MOME_QEMU_AARCH64)
  set(CMAKE_CROSSCOMPILING_EMULATOR ${MOME_QEMU_AARCH64} -L /usr/aarch64-linux-gnu)
endif()
