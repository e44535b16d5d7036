// Checks of the batch scheduler and the object pool; test_programs.py builds this and runs it.
#include "support/batch_scheduler.hpp"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "support/object_pool.hpp"

namespace {

using Jobs = std::vector<std::size_t>;

void expect(bool condition, const char* message) {
  if (!condition) throw std::logic_error(message);
}

// Counts its instances, and notices when two threads use one of them.
struct Worker {
  static std::atomic<int> made, alive;

  explicit Worker(std::vector<std::atomic<int>>& times) : done(times) { ++made, ++alive; }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;
  ~Worker() { --alive; }

  void operator()(std::size_t job) {
    expect(std::this_thread::get_id() == owner, "a worker has changed its thread");
    ++done[job];
  }

  std::vector<std::atomic<int>>& done;
  std::thread::id owner = std::this_thread::get_id();
};
std::atomic<int> Worker::made{0}, Worker::alive{0};

// Runs a schedule for many numbers of jobs and threads: each job is done exactly once, by at most that many workers.
template <class Schedule>
void check_each_job_once(Schedule schedule) {
  for (const std::size_t jobs : {0, 1, 2, 7, 64, 1000}) {
    for (const std::size_t threads : {0, 1, 2, 3, 8, 40}) {
      std::vector<std::atomic<int>> times(jobs);
      Worker::made = 0;
      schedule(jobs, threads, [&] { return Worker(times); });
      for (const std::atomic<int>& count : times) expect(count == 1, "a job was not done exactly once");
      const std::size_t most = jobs == 0 ? 1 : jobs < threads ? jobs : threads < 1 ? 1 : threads;
      expect(static_cast<std::size_t>(Worker::made) <= most, "more workers were made than there may be threads");
      expect(Worker::alive == 0, "a worker is still alive");
    }
  }
}

std::size_t difficulty(std::size_t job) { return job * 7 % 5; }  // with ties

void plain_order_does_each_job_once() {
  check_each_job_once(
      [](std::size_t jobs, std::size_t threads, auto make) { weakseg::parallel_for(jobs, threads, make); });
}

void hardest_first_does_each_job_once() {
  check_each_job_once([](std::size_t jobs, std::size_t threads, auto make) {
    weakseg::parallel_for_hardest_first(jobs, threads, difficulty, make);
  });
}

void one_thread_keeps_the_order() {
  Jobs seen;
  const auto make = [&] { return [&](std::size_t job) { seen.push_back(job); }; };
  weakseg::parallel_for(5, 1, make);
  expect(seen == Jobs({0, 1, 2, 3, 4}), "one thread changes the order");
  seen.clear();
  weakseg::parallel_for_hardest_first(5, 1, difficulty, make);
  expect(seen == Jobs({0, 1, 2, 3, 4}), "one thread sorts where nothing is to be gained");
}

void harder_jobs_come_first_and_ties_keep_their_order() {
  expect(weakseg::hardest_first(8, difficulty) == Jobs({2, 7, 4, 1, 6, 3, 0, 5}), "the order is not by difficulty");
  expect(weakseg::hardest_first(0, difficulty).empty(), "no jobs have an order");
}

// The two hardest jobs wait for each other, so that neither of the two threads can go on before both are taken.
void threads_take_the_hardest_jobs_first() {
  std::mutex guard;
  Jobs taken;
  std::atomic<int> arrived{0};
  weakseg::parallel_for_hardest_first(8, 2, difficulty, [&] {
    return [&](std::size_t job) {
      {
        const std::lock_guard<std::mutex> lock(guard);
        taken.push_back(job);
      }
      if (job != 2 && job != 7) return;
      ++arrived;
      while (arrived < 2) std::this_thread::yield();
    };
  });
  const bool hardest = taken.size() == 8 && taken[0] + taken[1] == 2 + 7 && (taken[0] == 2 || taken[0] == 7);
  expect(hardest, "the hardest jobs were not taken first");
}

void answers_do_not_depend_on_threads_or_order() {
  const auto solve = [](std::size_t threads, auto hardness) {
    std::vector<double> answers(200);
    weakseg::parallel_for_hardest_first(answers.size(), threads, hardness, [&] {
      return [&answers, scratch = std::vector<double>()](std::size_t job) mutable {
        scratch.assign(job + 1, 1.0 / static_cast<double>(job + 1));
        for (const double value : scratch) answers[job] += value;
      };
    });
    return answers;
  };
  const std::vector<double> expected = solve(1, difficulty);
  for (const std::size_t threads : {2, 3, 16}) {
    expect(solve(threads, difficulty) == expected, "answers depend on the number of threads");
    expect(solve(threads, [](std::size_t job) { return job; }) == expected, "answers depend on the order");
  }
}

// Runs `schedule`, and returns what it throws.
template <class Schedule>
std::string thrown_by(Schedule schedule) {
  try {
    schedule();
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "";
}

void exceptions_reach_the_caller_and_end_the_batch() {
  for (const std::size_t threads : {1, 2, 8}) {
    std::vector<std::atomic<int>> times(10000);
    const std::string message = thrown_by([&] {
      weakseg::parallel_for(times.size(), threads, [&] {
        return [&, worker = Worker(times)](std::size_t job) mutable {
          worker(job);
          if (job == 3) throw std::runtime_error("job 3");
          std::this_thread::sleep_for(std::chrono::milliseconds(1));
        };
      });
    });
    expect(message == "job 3", "the exception of a job was lost");
    expect(Worker::alive == 0, "a worker outlived the exception");
    int done = 0;
    for (const std::atomic<int>& count : times) done += count;
    expect(done < 10000 && (threads > 1 || done == 4), "jobs were begun after the exception");
  }
}

void exceptions_of_making_a_worker_reach_the_caller() {
  struct Stillborn {
    Stillborn() { throw std::runtime_error("no memory"); }
    void operator()(std::size_t) {}
  };
  for (const std::size_t threads : {1, 4}) {
    const std::string message = thrown_by([&] { weakseg::parallel_for(10, threads, [] { return Stillborn(); }); });
    expect(message == "no memory", "the exception of a worker's constructor was lost");
  }
}

struct Buffer {
  int uses = 0;
};

void pooled_objects_are_used_again_but_not_after_an_exception() {
  for (int use = 0; use < 3; ++use) {
    weakseg::Pooled<Buffer> buffer;
    expect(buffer->uses++ == use, "the object was not kept");
  }
  const std::string message = thrown_by([] {
    weakseg::Pooled<Buffer> buffer;
    buffer->uses = 100;
    throw std::runtime_error("halfway");
  });
  expect(message == "halfway", "the exception was lost");
  weakseg::Pooled<Buffer> buffer;
  expect(buffer->uses == 0, "an object in an unknown state was used again");
}

void objects_in_use_are_never_shared() {
  std::vector<std::atomic<int>> times(2000);
  weakseg::parallel_for(times.size(), 8, [&] {
    return [&](std::size_t job) {
      weakseg::Pooled<Buffer> first, second;  // a data race here is what sanitizers find
      expect(&*first != &*second, "one object was lent twice");
      ++first->uses, ++second->uses, ++times[job];
    };
  });
}

}  // namespace

int main() {
  try {
    plain_order_does_each_job_once();
    hardest_first_does_each_job_once();
    one_thread_keeps_the_order();
    harder_jobs_come_first_and_ties_keep_their_order();
    threads_take_the_hardest_jobs_first();
    answers_do_not_depend_on_threads_or_order();
    exceptions_reach_the_caller_and_end_the_batch();
    exceptions_of_making_a_worker_reach_the_caller();
    pooled_objects_are_used_again_but_not_after_an_exception();
    objects_in_use_are_never_shared();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "FAILED: %s\n", error.what());
    return 1;
  }
  std::puts("all checks passed");
  return 0;
}
