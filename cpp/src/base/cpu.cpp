#include "netassay/base/cpu.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdlib>
#include <string>

#include "netassay/base/error.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif
#if defined(__linux__) && defined(__x86_64__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace netassay {
namespace {

constexpr std::array<const char*, 4> kNames{"baseline", "avx2", "avx512", "amx"};

#if defined(__linux__) && defined(__x86_64__)
__attribute__((target("xsave"))) bool system_saves_tiles() {
  constexpr unsigned long long tile_state = 0x60000;
  return (_xgetbv(0) & tile_state) == tile_state;
}

bool amx_granted() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned amx_bf16 = 1u << 22, amx_tile = 1u << 24;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  if ((d & amx_bf16) == 0 || (d & amx_tile) == 0 || !system_saves_tiles()) return false;
  constexpr long request_permission = 0x1023, tile_data = 18;
  return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}
#else
bool amx_granted() { return false; }
#endif

Isa offered(Isa cap) {
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (cap >= Isa::amx && avx512 && amx_granted()) return Isa::amx;
  if (cap >= Isa::avx512 && avx512) return Isa::avx512;
  if (cap >= Isa::avx2 && avx2) return Isa::avx2;
#endif
  (void)cap;
  return Isa::baseline;
}

Isa cap_from_environment() {
  const char* text = std::getenv("NETASSAY_ISA");
  if (!text || !*text) return Isa::amx;
  const auto* const found = std::find(kNames.begin(), kNames.end(), std::string(text));
  NETASSAY_REQUIRE(found != kNames.end(), ValueError, "NETASSAY_ISA: got '", text,
                   "', expected baseline, avx2, avx512 or amx");
  return static_cast<Isa>(found - kNames.begin());
}

}  // namespace

Isa isa() {
  static const Isa chosen = offered(cap_from_environment());
  return chosen;
}

const char* isa_name(Isa isa) { return kNames[static_cast<std::size_t>(isa)]; }

}  // namespace netassay
