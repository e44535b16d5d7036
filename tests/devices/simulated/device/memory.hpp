// Memory of the device: addresses that nothing on the CPU can read, each at a fixed distance from the bytes behind it.
#pragma once

#include <ATen/EmptyTensor.h>
#include <c10/core/Allocator.h>
#include <signal.h>
#include <sys/mman.h>

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "streams.hpp"

namespace sim {

constexpr std::size_t kSpace = std::size_t{1} << 35;  // reserved, not used: pages exist once written
constexpr std::size_t kPage = 4096, kGrain = 512;
constexpr int kPoison = 0xFF;  // NaN, -1, 255: memory that nothing was written to yet

inline char* reserve(int access) {
  void* start = mmap(nullptr, kSpace, access, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  TORCH_CHECK(start != MAP_FAILED, "no address space for the simulated device");
  return static_cast<char*>(start);
}

struct Space {
  char* device = reserve(PROT_NONE);
  char* bytes = reserve(PROT_READ | PROT_WRITE);

  bool holds(const void* p) const { return p >= device && p < device + kSpace; }
  void* behind(const void* p) const { return p ? bytes + (static_cast<const char*>(p) - device) : nullptr; }
};

inline Space& space() {
  static Space* all = new Space;
  return *all;
}

// ---- what the CPU touches ----------------------------------------------------------------------------------------

inline std::atomic<std::int64_t> touched{0};
inline struct sigaction before_us;

// A read by the CPU is counted and gets poison, so that the test fails by name instead of by a dead process. Whatever is
// not ours goes to the handler of before, which the instruction meets as it runs again.
inline void on_fault(int number, siginfo_t* info, void*) {
  char* page = space().device + (static_cast<char*>(info->si_addr) - space().device) / kPage * kPage;
  if (space().holds(info->si_addr) && mprotect(page, kPage, PROT_READ | PROT_WRITE) == 0) {
    ++touched;
    std::memset(page, kPoison, kPage);
  } else {
    sigaction(number, &before_us, nullptr);
  }
}

// Again before each test: libraries that handle faults put back what they found, or nothing.
inline void watch() {
  struct sigaction action {}, now {};
  sigaction(SIGSEGV, nullptr, &now);
  if (now.sa_sigaction == on_fault) return;
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO;  // on the thread's own stack: there is room, unlike where others handle a full one
  sigaction(SIGSEGV, &action, &before_us);
}

inline std::int64_t take_touched() {
  const std::int64_t count = touched.exchange(0);
  if (count) mprotect(space().device, kSpace, PROT_NONE);
  return count;
}

// ---- the allocator -----------------------------------------------------------------------------------------------

struct Block {
  void* device;
  std::size_t size;
  c10::StreamId owner;
  std::vector<Ticket> users{};  // other streams that said they use it
};

// Freed memory is given out again at once, in the order of its stream, as CUDA's caching allocator does: who uses it on
// another stream without `record_stream` reads what the next owner writes.
class Allocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t size) override {
    const c10::Device device(c10::DeviceType::PrivateUse1, 0);
    if (size == 0) return {nullptr, nullptr, &Allocator::release, device};
    Block* block = take((size + kGrain - 1) / kGrain * kGrain);
    void* bytes = space().behind(block->device);
    streams().add(block->owner, [bytes, n = block->size] { std::memset(bytes, kPoison, n); });
    return {block->device, block, &Allocator::release, device};
  }

  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }

  void copy_data(void* to, const void* from, std::size_t size) const override {
    void *target = space().behind(to), *source = space().behind(from);
    streams().add(current_stream(), [=] { std::memcpy(target, source, size); });
  }

 private:
  static void release(void* context) {
    if (context) self().give(static_cast<Block*>(context));
  }

  Block* take(std::size_t size) {
    const std::lock_guard<std::mutex> held(lock_);
    for (auto at = shared_.begin(); at != shared_.end();) {  // others have finished with these by now
      const bool ready = streams().reached((*at)->users);
      if (ready) (*at)->users.clear(), free_[{(*at)->owner, (*at)->size}].push_back(*at);
      at = ready ? shared_.erase(at) : at + 1;
    }
    auto& free = free_[{current_stream(), size}];
    if (!free.empty()) {
      Block* block = free.back();
      free.pop_back();
      return block;
    }
    TORCH_CHECK(used_ + size <= kSpace, "out of memory on the simulated device");
    Block* block = new Block{space().device + used_, size, current_stream()};
    used_ += size;
    return block;
  }

  void give(Block* block) {
    const std::lock_guard<std::mutex> held(lock_);
    if (block->users.empty())
      free_[{block->owner, block->size}].push_back(block);
    else
      shared_.push_back(block);
  }

  std::mutex lock_;
  std::size_t used_ = 0;
  std::map<std::pair<c10::StreamId, std::size_t>, std::vector<Block*>> free_;
  std::deque<Block*> shared_;

 public:
  static Allocator& self() {
    static Allocator* one = new Allocator;
    return *one;
  }

  // The memory may be given out again only once what the stream has to do now is done.
  static void record(const c10::DataPtr& data, c10::StreamId stream) {
    if (auto* block = static_cast<Block*>(data.get_context()); block && block->owner != stream)
      block->users.push_back(streams().last(stream));
  }
};

// ---- pinned memory of the host -----------------------------------------------------------------------------------

// Memory that is freed while a copy from or to it has yet to run stays until that copy has run.
class Pinned final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t size) override {
    if (size == 0) return {nullptr, nullptr, &Pinned::release, c10::kCPU};
    void* start = std::aligned_alloc(64, (size + 63) / 64 * 64);
    TORCH_CHECK(start, "out of memory");
    const std::lock_guard<std::mutex> held(lock_);
    blocks_[start] = {size, {}};
    return {start, start, &Pinned::release, c10::kCPU};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &Pinned::release; }
  void copy_data(void* to, const void* from, std::size_t size) const override { std::memcpy(to, from, size); }

  bool holds(const void* p) {
    const std::lock_guard<std::mutex> held(lock_);
    return find(p) != blocks_.end();
  }

  void used_by(const void* p, Ticket copy) {
    const std::lock_guard<std::mutex> held(lock_);
    if (auto at = find(p); at != blocks_.end()) at->second.copies.push_back(copy);
  }

  static Pinned& self() {
    static Pinned* one = new Pinned;
    return *one;
  }

 private:
  struct Range {
    std::size_t size;
    std::vector<Ticket> copies;
  };

  std::map<void*, Range>::iterator find(const void* p) {
    auto at = blocks_.upper_bound(const_cast<void*>(p));
    if (at == blocks_.begin()) return blocks_.end();
    --at;
    return static_cast<const char*>(p) < static_cast<char*>(at->first) + at->second.size ? at : blocks_.end();
  }

  static void release(void* start) {
    if (!start) return;
    const std::lock_guard<std::mutex> held(self().lock_);
    auto at = self().blocks_.find(start);
    self().freed_.emplace_back(start, std::move(at->second.copies));
    self().blocks_.erase(at);
    auto& freed = self().freed_;
    for (auto each = freed.begin(); each != freed.end();) {
      const bool done = streams().reached(each->second);
      if (done) std::free(each->first);
      each = done ? freed.erase(each) : each + 1;
    }
  }

  std::mutex lock_;
  std::map<void*, Range> blocks_;
  std::deque<std::pair<void*, std::vector<Ticket>>> freed_;
};

}  // namespace sim
