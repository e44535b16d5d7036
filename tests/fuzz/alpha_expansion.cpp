// Fuzz target: the native alpha-expansion on random problems, against what can be known about its answers.
// tests/fuzz/run.py builds and runs it. Every input is derived from one number, which a failure prints.
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <string>

#include "checks.hpp"

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

// The sanitizers' way out leads through our handler, which knows the input.
extern "C" const char* __asan_default_options() { return "abort_on_error=1:handle_abort=0"; }
extern "C" const char* __ubsan_default_options() { return "abort_on_error=1:print_stacktrace=1"; }

namespace fuzz {
namespace {

constexpr unsigned kPatience = 60;  // seconds for one input

volatile std::uint64_t current = 0;

// Where it ends without an exception: a sanitizer's report, or a run that does not end.
void report(int signal) {
  std::fprintf(stderr, "FAILED on input %llu (signal %d; repeat it by --only %llu)\n",
               static_cast<unsigned long long>(current), signal, static_cast<unsigned long long>(current));
  std::_Exit(1);
}

void catch_signals() {
  std::signal(SIGABRT, report);
#if defined(SIGALRM)
  std::signal(SIGALRM, report);
#endif
#if !defined(WEAKSEG_SANITIZED)  // the sanitizers have better handlers
  std::signal(SIGSEGV, report);
  std::signal(SIGFPE, report);
#endif
}

struct Options {
  std::uint64_t first = 0, count = 1000000;
  std::size_t threads = 0;
};

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    const std::uint64_t value = std::strtoull(argv[i + 1], nullptr, 10);
    if (name == "--seed") options.first = value;
    else if (name == "--count") options.count = value;
    else if (name == "--threads") options.threads = static_cast<std::size_t>(value);
    else throw std::invalid_argument("unknown option " + name);
  }
  return options;
}

int run(const Options& options) {
  for (std::uint64_t done = 0; done < options.count; ++done) {
    current = options.first + done;
#if defined(SIGALRM)
    alarm(kPatience);
#endif
    try {
      options.threads > 0 ? check_batch(current, options.threads) : check_one(current);
    } catch (const std::exception& error) {
      const auto seed = static_cast<unsigned long long>(current);
      std::fprintf(stderr, "FAILED on input %llu: %s (repeat it by --only %llu)\n", seed, error.what(), seed);
      return 1;
    }
    if ((done + 1) % 50000 == 0) {
      std::printf("%llu inputs\n", static_cast<unsigned long long>(done + 1));
      std::fflush(stdout);
    }
  }
  std::printf("%llu inputs passed\n", static_cast<unsigned long long>(options.count));
  return 0;
}

}  // namespace
}  // namespace fuzz

int main(int argc, char** argv) {
  try {
    fuzz::catch_signals();
    return fuzz::run(fuzz::parse(argc, argv));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
}
