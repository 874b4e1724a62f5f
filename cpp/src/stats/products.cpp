#include "stats/products.hpp"

// Threads are started in base/parallel alone.
#define EIGEN_DONT_PARALLELIZE
#include <Eigen/Core>

namespace netassay::stats {
namespace {

template <class T>
void product(const T* A, const T* B, index_t n, index_t a, index_t b, index_t step, bool upper, T* C) {
  using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using Rows = Eigen::Map<const Matrix, 0, Eigen::OuterStride<>>;
  const Rows left(A, n, a, Eigen::OuterStride<>(step));
  const Rows right(B, n, b, Eigen::OuterStride<>(step));
  Eigen::Map<Matrix> out(C, a, b);
  if (upper) {
    out.template triangularView<Eigen::Upper>() = left.transpose() * right;
  } else {
    out.noalias() = left.transpose() * right;
  }
}

}  // namespace

void inner_product(const float* A, const float* B, index_t n, index_t a, index_t b, index_t step, bool upper,
                   float* C) {
  product(A, B, n, a, b, step, upper, C);
}

void inner_product(const double* A, const double* B, index_t n, index_t a, index_t b, index_t step, bool upper,
                   double* C) {
  product(A, B, n, a, b, step, upper, C);
}

}  // namespace netassay::stats
