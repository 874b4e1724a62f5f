/// Saturation from C++: ten thousand rows of width 64 that move along sixteen of their axes alone.

#include <netassay/saturation.hpp>

#include <cstddef>
#include <cstdio>
#include <vector>

int main() {
  constexpr netassay::index_t n = 10'000, d = 64, used = 16;
  std::vector<float> rows(n * d, 1.0f);
  for (netassay::index_t i = 0; i < n; ++i) {
    rows[static_cast<std::size_t>(i * d + i % used)] += i / used % 2 ? 1.0f : -1.0f;
  }

  netassay::Moments moments{d};
  moments.update(netassay::MatrixView<const float>{rows.data(), n, d});
  const auto saturation = netassay::saturation(moments.covariance(), 0.99);
  const auto effective = netassay::effective_dimension(moments.covariance());

  std::printf("saturation %.4f: %td of %td directions carry 99 %% of the variance; effective dimension %.2f\n",
              saturation.value, saturation.dimension, saturation.width, effective.value);
  return saturation.dimension == used ? 0 : 1;
}
