#pragma once
/// Which instruction set the kernels use: the widest the processor and the system offer, capped by NETASSAY_ISA.

namespace netassay {

enum class Isa { baseline, avx2, avx512, amx };

/// Decided once, at first use. AMX includes the permission that Linux wants asked for; where it is refused, AVX-512 is
/// used and nothing is said. Throws ValueError when NETASSAY_ISA is none of baseline, avx2, avx512, amx.
Isa isa();

/// "baseline", "avx2", "avx512" or "amx".
const char* isa_name(Isa isa);

}  // namespace netassay
