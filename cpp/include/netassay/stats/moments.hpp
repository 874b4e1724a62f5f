#pragma once
/// Streaming first and second moments of rows, mergeable over batches, threads, machines and files.
///
/// # Definition
/// With n rows x, the mean is m = (1/n) sum x, the scatter M = sum (x - m)(x - m)^T, the covariance Q = M / n. Two
/// parts merge (Chan, Golub, LeVeque 1979, for one and for many) by
///
///     delta = m_b - m_a
///     n = n_a + n_b
///     m = m_a + delta n_b / n
///     M = M_a + M_b + delta delta^T n_a n_b / n
///
/// # Determinism
/// Rows are taken in blocks of 1024. Each block is centred near its own mean before any product, so no mean, however
/// large or drifting, costs accuracy; the block's product is added to M in float64. Rows that do not fill a block wait
/// as they are. A state is therefore a function of the sequence of its rows alone: neither batch boundaries nor the
/// number of threads change a bit of it. (The instruction set does, in rounding: see base/cpu.hpp.)
///
/// # Precision
/// Precision::high: float32, bf16 and f16 rows are centred in float32 and multiplied in float32, or, on a tile unit, as
/// two bf16 parts each; float64 rows are worked on in float64. Q is within 2e-6 relative (Frobenius), at any mean up to
/// 1e6 spreads. A block whose squares float32 would not hold is worked on in float64.
///
/// Precision::exact: every row is widened to float64 first. Q is within 1e-10.
///
/// # Special numbers
/// A row with a NaN or an infinity is left out and counted; the state equals the one without it, bit for bit.
///
/// # Failure
/// A call that throws leaves the state as it was.
///
/// # Cost
/// n d^2 / 2 multiply-adds (three times that in bf16 where a tile unit splits float32) and one read of the rows.
/// Memory: 4 d^2 bytes and at most 1024 waiting rows. The calling thread keeps scratch of at most 96 MB.
///
/// # Source
/// Richter et al., arXiv 2006.08679 (what for); Chan, Golub, LeVeque 1979 (how).

#include <limits>
#include <memory>
#include <vector>

#include "netassay/base/parallel.hpp"
#include "netassay/base/scalar.hpp"

namespace netassay {

enum class Precision { high, exact };

class Moments {
 public:
  struct Options {
    Precision precision = Precision::high;
    /// Keep sum |x - m|^4 and sum |x - m|^2 (x - m) as well, for unbiased estimates of tr(Sigma^2).
    bool fourth = false;
    /// The bytes that the state may take. If it would take more, the constructor throws
    /// LimitExceeded and allocates nothing.
    double memory = std::numeric_limits<double>::infinity();
  };

  /// Throws ShapeError unless width >= 1.
  explicit Moments(index_t width);
  Moments(index_t width, Options options);
  Moments(const Moments& other);
  Moments(Moments&& other) noexcept;
  Moments& operator=(Moments other) noexcept;
  ~Moments();

  /// Takes rows (n, width). mask: n bytes, zero leaves the row out; null keeps all.
  /// samples: how many samples (images, sequences) the rows come from; -1: every row taken is one.
  /// Throws ShapeError for another width, ValueError for samples < -1.
  void update(const RowsView<const double>& x, const unsigned char* mask = nullptr, const Execution& how = {},
              index_t samples = -1);
  void update(const RowsView<const float>& x, const unsigned char* mask = nullptr, const Execution& how = {},
              index_t samples = -1);
  void update(const RowsView<const bf16>& x, const unsigned char* mask = nullptr, const Execution& how = {},
              index_t samples = -1);
  void update(const RowsView<const f16>& x, const unsigned char* mask = nullptr, const Execution& how = {},
              index_t samples = -1);

  /// Takes all that `other` has seen. Throws ShapeError (width) or ValueError (precision, fourth) if they differ.
  void merge(const Moments& other, const Execution& how = {});

  /// Forgets all rows and keeps the memory.
  void clear();

  index_t width() const;
  const Options& options() const;
  /// Rows taken, and rows left out for a NaN or an infinity.
  index_t count() const;
  index_t nonfinite() const;
  /// Samples that the rows come from, and how many of the rows were multiplied in float32.
  index_t samples() const;
  index_t single() const;
  /// (width), zeros when empty.
  std::vector<double> mean() const;
  /// (width, width), about the mean.
  SquareMatrix scatter(const Execution& how = {}) const;
  /// scatter / (n - ddof). Throws TooFewRows unless n > ddof.
  SquareMatrix covariance(index_t ddof = 0, const Execution& how = {}) const;
  /// sum |x - mean|^4. Throws ValueError unless kept (Options::fourth).
  double fourth(const Execution& how = {}) const;

  /// The bytes held now, and the most that a state of this width holds.
  double bytes() const;
  static double footprint(index_t width, const Options& options);

  /// All of a state, for files and other processes: from_parts(parts()) continues bit for bit.
  struct Parts {
    index_t width = 0;
    Options options{};
    index_t folded = 0;  // rows in mean and scatter
    index_t nonfinite = 0;
    index_t samples = 0;
    index_t single = 0;                 // of the folded rows, those multiplied in float32
    std::vector<double> pivot, offset;  // mean = pivot + offset, (width) or empty
    std::vector<double> scatter;        // (width, width) or empty
    double fourth = 0;
    std::vector<double> third;          // (width) or empty
    std::vector<float> waiting_narrow;  // (k, width), k < 1024: rows not yet folded,
    std::vector<double> waiting_wide;   // in one of these or neither
  };
  Parts parts() const;
  /// Throws ShapeError or ValueError for parts that do not fit together.
  static Moments from_parts(const Parts& parts);

 private:
  struct State;
  template <class T>
  void take(const RowsView<const T>& x, const unsigned char* mask, const Execution& how, index_t samples);
  std::unique_ptr<State> state_;
};

}  // namespace netassay
