#pragma once
/// The product that a scatter matrix is made of.

#include "netassay/base/view.hpp"

namespace netassay::stats {

/// C = A^T B for row-major A (n, a) and B (n, b) with rows `step` elements apart; C (a, b) row-major, overwritten.
/// `upper`: A and B are the same columns, and only C's upper triangle need be right.
void inner_product(const float* A, const float* B, index_t n, index_t a, index_t b, index_t step, bool upper,
                   float* C);
void inner_product(const double* A, const double* B, index_t n, index_t a, index_t b, index_t step, bool upper,
                   double* C);

}  // namespace netassay::stats
