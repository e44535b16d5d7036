// Runs independent jobs on a few threads that live for one call: nothing to clean up after a fork or at exit.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace weakseg {

// Calls make_worker() once per thread and the worker for each job 0..jobs - 1; the calling thread takes part.
// Rethrows the first exception of a job.
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
  const std::size_t wanted = std::min(jobs, std::max<std::size_t>(num_threads, 1));
  try {
    while (threads.size() + 1 < wanted) threads.emplace_back(work);
  } catch (const std::system_error&) {
    // The system has no thread left: those that run, and this one, do the work.
  }
  work();
  for (std::thread& thread : threads) thread.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace weakseg
