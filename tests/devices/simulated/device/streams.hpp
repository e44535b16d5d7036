// Streams of the device: queues of work that runs only when something waits for it.
//
// A real device may do its work at once or much later. This one takes the latest moment that is allowed, so that whoever
// forgot to wait reads old numbers each time, not once in a thousand runs. Whatever waits, on whichever thread, does the
// work of the stream that it waits for, in order.
#pragma once

#include <c10/core/Stream.h>
#include <c10/util/Exception.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace sim {

struct Ticket {
  c10::StreamId stream = 0;
  std::uint64_t number = 0;  // reached once so many pieces of work of the stream are done
};

// What training is to have few of: copies between host and device, and times that the host stands still for the device.
struct Count {
  const char* name;
  std::atomic<std::int64_t> number{0};
};
inline Count to_device{"to_device"}, to_host{"to_host"}, waits{"waits"};
inline std::atomic<bool> tell{false};  // warn of each, so that Python says where

inline void count(Count& which, const char* why) {
  ++which.number;
  if (tell) TORCH_WARN("simulated device: ", which.name, ", ", why);
}

inline c10::StreamId& current_stream() {
  thread_local c10::StreamId now = 0;
  return now;
}

class Streams {
 public:
  std::atomic<bool> later{false};  // otherwise work runs at once, in order

  c10::StreamId make() {
    const Lock held(lock_);
    queues_.emplace_back();
    return static_cast<c10::StreamId>(queues_.size()) - 1;
  }

  Ticket add(c10::StreamId stream, std::function<void()> work) {
    const Lock held(lock_);
    Queue& queue = queues_.at(stream);
    queue.work.push_back(std::move(work));
    const Ticket ticket{stream, ++queue.added};
    if (!later) run({ticket});
    return ticket;
  }

  Ticket last(c10::StreamId stream) {
    const Lock held(lock_);
    return {stream, queues_.at(stream).added};
  }

  bool reached(const std::vector<Ticket>& tickets) {
    const Lock held(lock_);
    for (const Ticket& each : tickets)
      if (queues_.at(each.stream).done < each.number) return false;
    return true;
  }

  // The stream goes on only after another one has come so far.
  void follow(c10::StreamId stream, Ticket other) {
    if (other.stream != stream) add(stream, [this, other] { run({other}); });
  }

  // Do all work up to the tickets; what failed in it is raised here, as on a device that reports late.
  void run(const std::vector<Ticket>& tickets) {
    const Lock held(lock_);
    for (const Ticket& each : tickets) {
      Queue& queue = queues_.at(each.stream);
      while (queue.done < each.number) {
        const std::function<void()> work = std::move(queue.work.front());
        queue.work.pop_front();
        try {
          work();
        } catch (...) {
          if (!failure_) failure_ = std::current_exception();
        }
        ++queue.done;
      }
    }
  }

  void raise_failure() {
    const Lock held(lock_);
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
  }

  // The calling thread stands still until the device has come so far.
  void wait(Ticket ticket, const char* why) {
    count(waits, why);
    run({ticket});
    raise_failure();
  }

  void wait_for_all(const char* why) {
    count(waits, why);
    run_all();
    raise_failure();
  }

  void run_all() {
    const Lock held(lock_);
    for (std::size_t stream = 0; stream < queues_.size(); ++stream) run({last(static_cast<c10::StreamId>(stream))});
  }

 private:
  using Lock = std::lock_guard<std::recursive_mutex>;
  struct Queue {
    std::deque<std::function<void()>> work;
    std::uint64_t added = 0, done = 0;
  };

  std::recursive_mutex lock_;
  std::deque<Queue> queues_{1};
  std::exception_ptr failure_;
};

inline Streams& streams() {
  static Streams* all = new Streams;
  return *all;
}

}  // namespace sim
