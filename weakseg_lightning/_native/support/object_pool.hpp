// Objects with large buffers, kept from one call to the next.
#pragma once

#include <algorithm>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace weakseg {

// Never blocks: a thread that finds the pool locked makes an object of its own. In the child of a fork the lock may be
// held forever, by a thread that exists in the parent only.
template <class T>
class ObjectPool {
 public:
  std::unique_ptr<T> take() {
    const std::unique_lock<std::mutex> lock(guard_, std::try_to_lock);
    if (!lock || idle_.empty()) return std::make_unique<T>();
    std::unique_ptr<T> object = std::move(idle_.back());
    idle_.pop_back();
    return object;
  }

  void put(std::unique_ptr<T> object) {
    const std::unique_lock<std::mutex> lock(guard_, std::try_to_lock);
    if (lock && idle_.size() < std::max(1U, std::thread::hardware_concurrency())) idle_.push_back(std::move(object));
  }

 private:
  std::mutex guard_;
  std::vector<std::unique_ptr<T>> idle_;
};

// An object on loan from the pool of its type. It is not put back after an exception, which may leave it in any state.
template <class T>
class Pooled {
 public:
  Pooled() : object_(pool().take()), exceptions_(std::uncaught_exceptions()) {}
  Pooled(const Pooled&) = delete;
  Pooled& operator=(const Pooled&) = delete;
  ~Pooled() {
    if (std::uncaught_exceptions() == exceptions_) pool().put(std::move(object_));
  }

  T& operator*() { return *object_; }
  T* operator->() { return object_.get(); }

 private:
  static ObjectPool<T>& pool() {
    static ObjectPool<T> shared;
    return shared;
  }

  std::unique_ptr<T> object_;
  int exceptions_;
};

}  // namespace weakseg
