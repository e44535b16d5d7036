// Runs independent jobs on a few threads that live for one call: nothing to clean up after a fork or at exit.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace weakseg {

// Keeps objects with large buffers from one call to the next. Nobody waits for it: whoever finds it locked, be it for ever
// in the child of a fork, makes an object of their own.
template <class T>
class Shelf {
 public:
  std::unique_ptr<T> take() {
    const std::unique_lock<std::mutex> lock(guard_, std::try_to_lock);
    if (!lock || kept_.empty()) return std::make_unique<T>();
    std::unique_ptr<T> object = std::move(kept_.back());
    kept_.pop_back();
    return object;
  }

  void put(std::unique_ptr<T> object) {
    const std::unique_lock<std::mutex> lock(guard_, std::try_to_lock);
    if (lock && kept_.size() < std::max(1U, std::thread::hardware_concurrency())) kept_.push_back(std::move(object));
  }

 private:
  std::mutex guard_;
  std::vector<std::unique_ptr<T>> kept_;
};

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
