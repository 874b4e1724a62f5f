#include "netassay/stats/moments.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <type_traits>
#include <utility>

#include "netassay/base/cpu.hpp"
#include "stats/fold.hpp"

namespace netassay {

using stats::Folded;
using stats::kBlock;
using stats::RowBuffer;

// Work (rows times squared width) that takes about a tenth of a second on one or two cores. An update up to that is
// done in place and in one go; beyond it an update works on a copy of the state, which an interruption simply drops.
double quick_work() {
  switch (isa()) {
    case Isa::amx:
      return 7e10;
    case Isa::avx512:
      return 1.5e10;
    case Isa::avx2:
      return 7e9;
    case Isa::baseline:
      break;
  }
  return 2e9;
}

struct Moments::State {
  index_t d;
  Options options;
  Folded folded;
  index_t nonfinite = 0, samples = 0, single = 0;
  RowBuffer<float> narrow;  // waiting rows, fewer than kBlock, in one of these or neither
  RowBuffer<double> wide;

  State(index_t width, Options o) : d(width), options(o), folded(width, o.fourth), narrow(width), wide(width) {}

  template <class W>
  RowBuffer<W>& waiting() {
    if constexpr (std::is_same_v<W, float>) {
      return narrow;
    } else {
      return wide;
    }
  }

  index_t count() const { return folded.n + narrow.rows() + wide.rows(); }

  // Folds the waiting rows as a short block of their own, in float64: fewer rows than units span fewer directions, and
  // then what rounding leaves in the others would be all that stands there.
  void settle(const Execution& how) {
    folded.fold<double>(stats::WaitingRows(narrow), 0, narrow.rows(), true, how);
    folded.fold<double>(stats::WaitingRows(wide), 0, wide.rows(), true, how);
    narrow.clear();
    wide.clear();
  }

  template <class T, class W>
  void take(stats::RowReader<T>& reader, const Execution& how) {
    RowBuffer<W>& rows = waiting<W>();
    // Waiting rows of the other kind cannot share a block with these.
    const bool other_waits = rows.rows() == 0 && narrow.rows() + wide.rows() > 0;
    if (other_waits || rows.rows() + reader.left() >= kBlock) folded.allocate();
    rows.reserve(std::min(rows.rows() + reader.left(), kBlock - 1));
    if (other_waits) settle(how);

    bool finite = false;  // known to be
    while (rows.rows() + reader.left() >= kBlock) {
      const index_t blocks = std::min(Folded::blocks_at_once<W>(d), (rows.rows() + reader.left()) / kBlock);
      if (!folded.fold<W>(stats::JoinedRows(rows, reader), 0, blocks * kBlock, finite, how)) {
        nonfinite += reader.drop_nonfinite(how);
        finite = true;
        continue;
      }
      if (std::is_same_v<W, float>) single += blocks * kBlock;
      reader.skip(blocks * kBlock - rows.rows());
      rows.clear();
    }
    rows.grow(reader.read(rows.end(), nonfinite, how));
  }
};

template <class T>
void Moments::take(const RowsView<const T>& x, const unsigned char* mask, const Execution& how, index_t samples) {
  State& state = *state_;
  NETASSAY_REQUIRE(x.width() == state.d, ShapeError, "Moments.update: got rows of width ", x.width(), ", expected ",
                   state.d);
  NETASSAY_REQUIRE(samples >= -1, ValueError, "Moments.update: got samples=", samples, ", expected at least 0");
  const Execution quick{thread_count(how.threads), {}};
  stats::RowReader<T> reader(x, mask);
  const auto run = [&](State& target, const Execution& execution) {
    const index_t before = target.count();
    if (std::is_same_v<T, double> || state.options.precision == Precision::exact) {
      target.take<T, double>(reader, execution);
    } else if constexpr (!std::is_same_v<T, double>) {
      target.take<T, float>(reader, execution);
    }
    target.samples += samples < 0 ? target.count() - before : samples;
  };
  const auto d = static_cast<double>(state.d);
  const index_t all = state.narrow.rows() + state.wide.rows() + reader.left(), folds = all / kBlock * kBlock;
  if (!how.poll || static_cast<double>(folds) * d * d <= quick_work()) {
    run(state, quick);
    return;
  }
  auto next = std::make_unique<State>(state);
  run(*next, {quick.threads, how.poll});
  state_ = std::move(next);
}

Moments::Moments(index_t width) : Moments(width, Options{}) {}

Moments::Moments(index_t width, Options options) {
  NETASSAY_REQUIRE(width >= 1, ShapeError, "Moments: got width ", width, ", expected at least 1");
  const double need = footprint(width, options);
  NETASSAY_REQUIRE(need <= options.memory, LimitExceeded, "Moments: got width ", width, ", which needs ", need / 1e9,
                   " GB, expected at most ", options.memory / 1e9, " GB (memory)");
  state_ = std::make_unique<State>(width, options);
}

Moments::Moments(const Moments& other) : state_(std::make_unique<State>(*other.state_)) {}
Moments::Moments(Moments&&) noexcept = default;
Moments& Moments::operator=(Moments other) noexcept {
  state_.swap(other.state_);
  return *this;
}
Moments::~Moments() = default;

void Moments::update(const RowsView<const double>& x, const unsigned char* mask, const Execution& how,
                     index_t samples) {
  take(x, mask, how, samples);
}
void Moments::update(const RowsView<const float>& x, const unsigned char* mask, const Execution& how, index_t samples) {
  take(x, mask, how, samples);
}
void Moments::update(const RowsView<const bf16>& x, const unsigned char* mask, const Execution& how, index_t samples) {
  take(x, mask, how, samples);
}
void Moments::update(const RowsView<const f16>& x, const unsigned char* mask, const Execution& how, index_t samples) {
  take(x, mask, how, samples);
}

void Moments::merge(const Moments& other, const Execution& how) {
  if (&other == this) return merge(Moments(other), how);
  State& mine = *state_;
  const State& theirs = *other.state_;
  NETASSAY_REQUIRE(mine.d == theirs.d, ShapeError, "Moments.merge: got width ", theirs.d, ", expected ", mine.d);
  NETASSAY_REQUIRE(mine.options.precision == theirs.options.precision, ValueError,
                   "Moments.merge: got another precision, expected the same in both states");
  NETASSAY_REQUIRE(mine.options.fourth == theirs.options.fourth, ValueError,
                   "Moments.merge: got fourth=", theirs.options.fourth, ", expected fourth=", mine.options.fourth);
  const Execution quick{thread_count(how.threads), {}};
  mine.folded.merge(theirs.folded, quick);
  // Waiting rows are taken as the rows they are: nothing of them has been rounded yet.
  const auto append = [&]<class W>(const RowBuffer<W>& rows) {
    if (rows.rows() == 0) return;
    stats::RowReader<W> reader(MatrixView<const W>(rows.data(), rows.rows(), mine.d), nullptr);
    mine.take<W, W>(reader, quick);
  };
  append(theirs.narrow);
  append(theirs.wide);
  mine.nonfinite += theirs.nonfinite;
  mine.samples += theirs.samples;
  mine.single += theirs.single;
}

void Moments::clear() {
  state_->folded.clear();
  state_->nonfinite = state_->samples = state_->single = 0;
  state_->narrow.clear();
  state_->wide.clear();
}

index_t Moments::width() const { return state_->d; }
const Moments::Options& Moments::options() const { return state_->options; }
index_t Moments::count() const { return state_->count(); }
index_t Moments::nonfinite() const { return state_->nonfinite; }
index_t Moments::samples() const { return state_->samples; }
index_t Moments::single() const { return state_->single; }

std::vector<double> Moments::mean() const {
  const State& s = *state_;
  if (s.narrow.rows() > 0) return s.folded.mean_with(s.narrow.data(), s.narrow.rows());
  return s.folded.mean_with(s.wide.data(), s.wide.rows());
}

SquareMatrix Moments::scatter(const Execution& how) const {
  State settled(*state_);
  settled.folded.allocate();
  settled.settle(how);
  return settled.folded.scatter.dense(1.0);
}

SquareMatrix Moments::covariance(index_t ddof, const Execution& how) const {
  const index_t n = count();
  NETASSAY_REQUIRE(ddof >= 0, ValueError, "Moments.covariance: got ddof=", ddof, ", expected at least 0");
  NETASSAY_REQUIRE(n > ddof, TooFewRows, "Moments.covariance: got ", n, " rows with ddof=", ddof,
                   ", expected more than ", ddof);
  State settled(*state_);
  settled.folded.allocate();
  settled.settle(how);
  return settled.folded.scatter.dense(1.0 / static_cast<double>(n - ddof));
}

double Moments::fourth(const Execution& how) const {
  NETASSAY_REQUIRE(state_->options.fourth, ValueError,
                   "Moments.fourth: got a state that does not keep it, expected fourth=true");
  State settled(*state_);
  settled.folded.allocate();
  settled.settle(how);
  return settled.folded.fourth;
}

double Moments::bytes() const {
  const State& s = *state_;
  return 8.0 * (s.folded.scatter.empty() ? 0.0 : static_cast<double>(stats::SymmetricTiles::size(s.d))) +
         static_cast<double>(s.narrow.bytes() + s.wide.bytes()) + 24.0 * static_cast<double>(s.d);
}

double Moments::footprint(index_t width, const Options& options) {
  const auto d = static_cast<double>(width);
  const double waiting = (options.precision == Precision::exact ? 8.0 : 4.0) * static_cast<double>(kBlock) * d;
  return 4.0 * d * (d + static_cast<double>(stats::kTile)) + waiting + 24.0 * d;
}

Moments::Parts Moments::parts() const {
  const State& s = *state_;
  Parts p;
  p.width = s.d;
  p.options = s.options;
  p.folded = s.folded.n;
  p.nonfinite = s.nonfinite;
  p.samples = s.samples;
  p.single = s.single;
  p.fourth = s.folded.fourth;
  if (s.folded.n > 0) {
    p.pivot = s.folded.pivot;
    p.offset = s.folded.offset;
    p.scatter = std::move(s.folded.scatter.dense(1.0).values);
    if (s.options.fourth) p.third = s.folded.third;
  }
  p.waiting_narrow.assign(s.narrow.data(), s.narrow.data() + s.narrow.rows() * s.d);
  p.waiting_wide.assign(s.wide.data(), s.wide.data() + s.wide.rows() * s.d);
  return p;
}

Moments Moments::from_parts(const Parts& p) {
  Moments moments(p.width, p.options);
  State& s = *moments.state_;
  const auto d = static_cast<std::size_t>(p.width);
  const std::size_t expected = p.folded > 0 ? d : 0;
  NETASSAY_REQUIRE(p.folded >= 0 && p.nonfinite >= 0, ValueError, "Moments.from_parts: got counts ", p.folded, " and ",
                   p.nonfinite, ", expected at least 0");
  NETASSAY_REQUIRE(p.samples >= 0 && p.single >= 0 && p.single <= p.folded, ValueError, "Moments.from_parts: got ",
                   p.samples, " samples and ", p.single, " rows in float32 of ", p.folded,
                   ", expected at least 0 and no more than there are");
  NETASSAY_REQUIRE(p.pivot.size() == expected && p.offset.size() == expected && p.scatter.size() == expected * d &&
                       p.third.size() == (p.options.fourth ? expected : 0),
                   ShapeError, "Moments.from_parts: got pivot, offset, scatter and third of sizes ", p.pivot.size(),
                   ", ", p.offset.size(), ", ", p.scatter.size(), ", ", p.third.size(), ", expected those of width ",
                   d);
  const std::size_t narrow = p.waiting_narrow.size() / d, wide = p.waiting_wide.size() / d;
  NETASSAY_REQUIRE(narrow * d == p.waiting_narrow.size() && wide * d == p.waiting_wide.size() &&
                       narrow < static_cast<std::size_t>(kBlock) && wide < static_cast<std::size_t>(kBlock) &&
                       (narrow == 0 || wide == 0),
                   ShapeError, "Moments.from_parts: got ", p.waiting_narrow.size(), " and ", p.waiting_wide.size(),
                   " waiting values, expected fewer than ", kBlock, " whole rows of one kind");
  const auto finite = [](const auto& values) {
    return std::all_of(values.begin(), values.end(), [](auto value) { return std::isfinite(value); });
  };
  NETASSAY_REQUIRE(finite(p.pivot) && finite(p.offset) && finite(p.third) && finite(p.waiting_narrow) &&
                       finite(p.waiting_wide) && !std::isnan(p.fourth) && p.fourth >= 0,
                   NonFinite,
                   "Moments.from_parts: got a NaN, an infinity or a negative sum of fourth powers, expected none");
  for (std::size_t j = 0; j < expected; ++j) {
    NETASSAY_REQUIRE(p.scatter[j * d + j] >= 0, ValueError, "Moments.from_parts: got a scatter with ",
                     p.scatter[j * d + j], " at ", j, " of its diagonal, expected at least 0");
  }
  s.nonfinite = p.nonfinite;
  s.samples = p.samples;
  s.single = p.single;
  if (p.folded > 0) {
    s.folded.allocate();
    s.folded.n = p.folded;
    s.folded.pivot = p.pivot;
    s.folded.offset = p.offset;
    s.folded.fourth = p.fourth;
    if (p.options.fourth) s.folded.third = p.third;
    s.folded.scatter.assign({p.scatter.data(), p.width, p.width});
  }
  s.narrow.reserve(static_cast<index_t>(narrow));
  s.narrow.append(p.waiting_narrow.data(), static_cast<index_t>(narrow));
  s.wide.reserve(static_cast<index_t>(wide));
  s.wide.append(p.waiting_wide.data(), static_cast<index_t>(wide));
  return moments;
}

}  // namespace netassay
