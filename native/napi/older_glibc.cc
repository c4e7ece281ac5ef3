// Lets an addon that is linked on a new system load where glibc is 2.28: functions that got a new version since are
// called by their old one, and those that an older glibc has not are written here. The linker sends all calls of these
// names here (MOME_OLD_GLIBC in CMakeLists.txt), those of the C++ library inside the addon too.
#include <sys/random.h>
#include <sys/stat.h>

#include <cstdint>
#include <cstdlib>

// The first version of glibc that there was on this kind of processor, a jump to a function that may be in another
// library, and the layout of `struct stat` that the functions before 2.33 are told.
#if defined(__x86_64__)
#define MOME_FIRST_GLIBC "GLIBC_2.2.5"
#define MOME_AFFINITY_GLIBC "GLIBC_2.3.4"
#define MOME_JUMP(name) "jmp " name "@PLT"
constexpr int kStatLayout = 1;
#elif defined(__aarch64__)
#define MOME_FIRST_GLIBC "GLIBC_2.17"
#define MOME_AFFINITY_GLIBC MOME_FIRST_GLIBC
#define MOME_JUMP(name) "b " name
constexpr int kStatLayout = 0;
#endif

#define MOME_OLD_VERSION(name, version) \
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
      "  " MOME_JUMP("mome_old_" #name)                \
      "\n"                                             \
      ".size __wrap_" #name ", .-__wrap_" #name        \
      "\n"                                             \
      ".popsection\n")

// Moved from libpthread and libdl into libc by 2.34, where they have the version of the move.
MOME_OLD_VERSION(pthread_create, MOME_FIRST_GLIBC);
MOME_OLD_VERSION(pthread_join, MOME_FIRST_GLIBC);
MOME_OLD_VERSION(pthread_detach, MOME_FIRST_GLIBC);
MOME_OLD_VERSION(pthread_once, MOME_FIRST_GLIBC);
MOME_OLD_VERSION(pthread_key_create, MOME_FIRST_GLIBC);
MOME_OLD_VERSION(__pthread_key_create, MOME_FIRST_GLIBC);
MOME_OLD_VERSION(pthread_key_delete, MOME_FIRST_GLIBC);
MOME_OLD_VERSION(pthread_getspecific, MOME_FIRST_GLIBC);
MOME_OLD_VERSION(pthread_setspecific, MOME_FIRST_GLIBC);
MOME_OLD_VERSION(pthread_rwlock_rdlock, MOME_FIRST_GLIBC);
MOME_OLD_VERSION(pthread_rwlock_wrlock, MOME_FIRST_GLIBC);
MOME_OLD_VERSION(pthread_rwlock_unlock, MOME_FIRST_GLIBC);
MOME_OLD_VERSION(pthread_setaffinity_np, MOME_AFFINITY_GLIBC);
MOME_OLD_VERSION(dlopen, MOME_FIRST_GLIBC);
MOME_OLD_VERSION(dlsym, MOME_FIRST_GLIBC);
MOME_OLD_VERSION(dlerror, MOME_FIRST_GLIBC);
MOME_OLD_VERSION(dladdr, MOME_FIRST_GLIBC);
// Without errno since 2.29; the values are the same.
MOME_OLD_VERSION(exp, MOME_FIRST_GLIBC);
MOME_OLD_VERSION(log, MOME_FIRST_GLIBC);
MOME_OLD_VERSION(pow, MOME_FIRST_GLIBC);

extern "C" {

// Functions of their own since 2.33. The first argument is the layout of the structure, which has one for each kind of
// processor.
int __fxstat(int layout, int descriptor, struct stat* status);
int __wrap_fstat(int descriptor, struct stat* status) { return __fxstat(kStatLayout, descriptor, status); }
int __wrap_fstat64(int descriptor, struct stat* status) { return __fxstat(kStatLayout, descriptor, status); }

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
