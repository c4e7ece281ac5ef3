// Lets an addon that is linked on a new system load where glibc is 2.28: functions that got a new version since are
// called by their old one, and those that an older glibc has not are written here. The linker sends all calls of these
// names here (MOME_OLD_GLIBC in CMakeLists.txt), those of the C++ library inside the addon too.
#include <sys/random.h>
#include <sys/stat.h>

#include <cstdint>
#include <cstdlib>

#define MOME_OLD_VERSION(name, version)                \
  asm(".symver mome_old_" #name ", " #name "@" version \
      "\n"                                             \
      ".pushsection .text\n"                           \
      ".globl __wrap_" #name                           \
      "\n"                                             \
      ".hidden __wrap_" #name                          \
      "\n"                                             \
      ".type __wrap_" #name                            \
      ", @function\n"                                  \
      "__wrap_" #name                                  \
      ":\n"                                            \
      "  jmp mome_old_" #name                          \
      "@PLT\n"                                         \
      ".size __wrap_" #name ", .-__wrap_" #name        \
      "\n"                                             \
      ".popsection\n")

// Moved from libpthread and libdl into libc by 2.34, where they have the version of the move.
MOME_OLD_VERSION(pthread_create, "GLIBC_2.2.5");
MOME_OLD_VERSION(pthread_join, "GLIBC_2.2.5");
MOME_OLD_VERSION(pthread_detach, "GLIBC_2.2.5");
MOME_OLD_VERSION(pthread_once, "GLIBC_2.2.5");
MOME_OLD_VERSION(pthread_key_create, "GLIBC_2.2.5");
MOME_OLD_VERSION(__pthread_key_create, "GLIBC_2.2.5");
MOME_OLD_VERSION(pthread_key_delete, "GLIBC_2.2.5");
MOME_OLD_VERSION(pthread_getspecific, "GLIBC_2.2.5");
MOME_OLD_VERSION(pthread_setspecific, "GLIBC_2.2.5");
MOME_OLD_VERSION(pthread_rwlock_rdlock, "GLIBC_2.2.5");
MOME_OLD_VERSION(pthread_rwlock_wrlock, "GLIBC_2.2.5");
MOME_OLD_VERSION(pthread_rwlock_unlock, "GLIBC_2.2.5");
MOME_OLD_VERSION(pthread_setaffinity_np, "GLIBC_2.3.4");
MOME_OLD_VERSION(dlopen, "GLIBC_2.2.5");
MOME_OLD_VERSION(dlsym, "GLIBC_2.2.5");
MOME_OLD_VERSION(dlerror, "GLIBC_2.2.5");
MOME_OLD_VERSION(dladdr, "GLIBC_2.2.5");
// Without errno since 2.29; the values are the same.
MOME_OLD_VERSION(exp, "GLIBC_2.2.5");
MOME_OLD_VERSION(log, "GLIBC_2.2.5");
MOME_OLD_VERSION(pow, "GLIBC_2.2.5");

extern "C" {

// Functions of their own since 2.33. The first argument is the layout of the structure, which has one on x86-64.
int __fxstat(int layout, int descriptor, struct stat* status);
int __wrap_fstat(int descriptor, struct stat* status) { return __fxstat(1, descriptor, status); }
int __wrap_fstat64(int descriptor, struct stat* status) { return __fxstat(1, descriptor, status); }

// Since 2.36, and taken by std::random_device.
std::uint32_t __wrap_arc4random() {
  std::uint32_t number = 0;
  if (getrandom(&number, sizeof number, 0) != static_cast<ssize_t>(sizeof number)) std::abort();
  return number;
}

// Since 2.32: whether reference counts may do without atomic operations. Never here.
extern const char __wrap___libc_single_threaded;
const char __wrap___libc_single_threaded = 0;

}  // extern "C"
