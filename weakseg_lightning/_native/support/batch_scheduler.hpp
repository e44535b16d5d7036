// Distributes the images of a batch over threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <mutex>
#include <numeric>
#include <system_error>
#include <thread>
#include <vector>

namespace weakseg {

// Calls make_worker() once on each thread, then the worker for jobs 0..jobs - 1, each exactly once and in this order as
// threads become free; the calling thread takes part. After an exception no new job starts, and the first exception is
// rethrown here. The threads live for one call only, so nothing has to be cleaned up after a fork or at exit.
template <class MakeWorker>
void parallel_for(std::size_t jobs, std::size_t num_threads, MakeWorker make_worker) {
  std::atomic<std::size_t> next{0};
  std::exception_ptr failure;
  std::mutex guard;
  const auto work = [&] {
    try {
      auto worker = make_worker();
      for (std::size_t job = next++; job < jobs; job = next++) worker(job);
    } catch (...) {
      const std::lock_guard<std::mutex> lock(guard);
      if (!failure) failure = std::current_exception();
      next = jobs;
    }
  };
  std::vector<std::thread> threads;
  const std::size_t most = std::min(jobs, std::max<std::size_t>(num_threads, 1));
  try {
    while (threads.size() + 1 < most) threads.emplace_back(work);
  } catch (const std::system_error&) {
    // The system allows no more threads; those already running and this one do all the work.
  }
  work();
  for (std::thread& thread : threads) thread.join();
  if (failure) std::rethrow_exception(failure);
}

// The jobs by decreasing difficulty(job); equal ones stay in order.
template <class Difficulty>
std::vector<std::size_t> hardest_first(std::size_t jobs, Difficulty difficulty) {
  std::vector<std::size_t> order(jobs), difficulties;
  for (std::size_t job = 0; job < jobs; ++job) difficulties.push_back(difficulty(job));
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return difficulties[a] > difficulties[b]; });
  return order;
}

// As parallel_for, but begins with the hardest jobs wherever the order matters: if a hard one came last, its thread
// would still be busy with it while the others had nothing left to do.
template <class Difficulty, class MakeWorker>
void parallel_for_hardest_first(std::size_t jobs, std::size_t num_threads, Difficulty difficulty,
                                MakeWorker make_worker) {
  if (num_threads <= 1 || jobs <= num_threads) return parallel_for(jobs, num_threads, make_worker);
  const std::vector<std::size_t> order = hardest_first(jobs, difficulty);
  parallel_for(jobs, num_threads,
               [&] { return [&, worker = make_worker()](std::size_t place) mutable { worker(order[place]); }; });
}

}  // namespace weakseg
