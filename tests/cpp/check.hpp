#pragma once
/// Checks: a failed one prints where, what and the values, and the run goes on; the program's status says
/// whether any did.

#include <cmath>
#include <cstdio>
#include <exception>
#include <initializer_list>
#include <sstream>
#include <string>

namespace check {

inline int failures = 0;

struct Case {
  const char* claim;
  void (*body)();
};

template <class... Parts>
void fail(const char* file, int line, const Parts&... parts) {
  std::ostringstream text;
  text.precision(17);
  (text << ... << parts);
  std::printf("%s:%d: %s\n", file, line, text.str().c_str());
  ++failures;
}

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// Runs every case; the status for main.
inline int run(std::initializer_list<Case> cases) {
  int failed = 0;
  for (const Case& test : cases) {
    const int before = failures;
    try {
      test.body();
    } catch (const std::exception& e) {
      fail(test.claim, 0, "threw: ", e.what());
    }
    const bool ok = failures == before;
    failed += !ok;
    std::printf("%s  %s\n", ok ? "ok    " : "FAILED", test.claim);
    std::fflush(stdout);  // what is said is not lost where the next case never ends
  }
  std::printf("%d passed, %d failed\n", static_cast<int>(cases.size()) - failed, failed);
  return failed != 0;
}

}  // namespace check

#define CHECK(condition)                                                        \
  do {                                                                          \
    if (!(condition)) check::fail(__FILE__, __LINE__, "not true: " #condition); \
  } while (false)

#define CHECK_EQUAL(got, expected)                                                                            \
  do {                                                                                                        \
    const auto got_ = (got);                                                                                  \
    const auto expected_ = (expected);                                                                        \
    if (!(got_ == expected_)) check::fail(__FILE__, __LINE__, #got ": got ", got_, ", expected ", expected_); \
  } while (false)

/// |got - expected| <= tolerance, an absolute one.
#define CHECK_NEAR(got, expected, tolerance)                                                                  \
  do {                                                                                                        \
    const double got_ = (got), expected_ = (expected), tolerance_ = (tolerance);                              \
    if (!(std::abs(got_ - expected_) <= tolerance_))                                                          \
      check::fail(__FILE__, __LINE__, #got ": got ", got_, ", expected ", expected_, " within ", tolerance_); \
  } while (false)

/// The expression throws exactly this type, with a message that contains `part`.
#define CHECK_THROWS(expression, type, part)                                                             \
  do {                                                                                                   \
    std::string outcome_ = "nothing";                                                                    \
    try {                                                                                                \
      (void)(expression);                                                                                \
    } catch (const type& e_) {                                                                           \
      outcome_ = check::contains(e_.what(), part) ? "" : e_.what();                                      \
    } catch (const std::exception& e_) {                                                                 \
      outcome_ = std::string("another type: ") + e_.what();                                              \
    }                                                                                                    \
    if (!outcome_.empty())                                                                               \
      check::fail(__FILE__, __LINE__, #expression ": threw ", outcome_, ", expected " #type ": ", part); \
  } while (false)
