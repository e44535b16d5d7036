// A device of its own kind for tests: an allocator, streams, a generator, and the CPU's operators behind them.
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/ops/_local_scalar_dense.h>
#include <ATen/ops/set.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include "autocast.hpp"
#include "copies.hpp"
#include "fallback.hpp"
#include "guard.hpp"

namespace sim {
namespace {

std::atomic<bool> present{true};

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return present; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  void setCurrentDevice(c10::DeviceIndex) const override {}
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex) const override { return 0; }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex) const override { return 0; }
  at::Device getDeviceFromPtr(void*) const override { return kDevice; }
  bool isPinnedPtr(const void* p) const override { return Pinned::self().holds(p); }
  c10::Allocator* getPinnedMemoryAllocator() const override { return &Pinned::self(); }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override { return default_generator(); }
  at::Generator getNewGenerator(c10::DeviceIndex) const override { return at::make_generator<GeneratorImpl>(); }
  void resizePrivateUse1Bytes(const c10::Storage& storage, std::size_t size) const override {
    c10::DataPtr made = Allocator::self().allocate(size);
    if (const auto kept = std::min(size, storage.nbytes())) Allocator::self().copy_data(made.get(), storage.data(), kept);
    storage.set_data_ptr(std::move(made));
    storage.set_nbytes(size);
  }
};

at::Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                 std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, &Allocator::self(), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                   c10::dtype_or_default(dtype), format);
}

at::Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> dtype,
                         std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, &Allocator::self(),
                                           c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                           c10::dtype_or_default(dtype));
}

const at::Tensor& resize(const at::Tensor& self, at::IntArrayRef size, std::optional<at::MemoryFormat> format) {
  auto* impl = self.unsafeGetTensorImpl();
  impl->set_sizes_contiguous(size);
  if (format && *format != at::MemoryFormat::Preserve) impl->empty_tensor_restride(*format);
  const std::size_t needed = (self.storage_offset() + self.numel()) * self.itemsize();
  if (needed > self.storage().nbytes()) at::detail::getPrivateUse1Hooks().resizePrivateUse1Bytes(self.storage(), needed);
  return self;
}

at::Tensor& set_part(at::Tensor& self, at::Storage source, std::int64_t offset, at::IntArrayRef size,
                     at::IntArrayRef stride) {
  auto* impl = self.unsafeGetTensorImpl();
  impl->set_storage_keep_dtype(std::move(source));
  if (stride.data() == nullptr) {
    impl->set_sizes_contiguous(size);
    impl->set_storage_offset(offset);
  } else {
    impl->set_sizes_and_strides(size, stride, offset);
  }
  return self;
}

at::Tensor& set_whole(at::Tensor& self, at::Storage source) {
  const auto elements = static_cast<std::int64_t>(source.nbytes() / self.itemsize());
  return set_part(self, std::move(source), 0, {elements}, at::IntArrayRef{});
}

at::Tensor& set_to(at::Tensor& self, const at::Tensor& source) {
  return set_part(self, source.storage(), source.storage_offset(), source.sizes(), source.strides());
}

at::Scalar local_scalar_dense(const at::Tensor& self) {
  count(to_host, "item");
  streams().wait(streams().last(current_stream()), "item");
  return at::_local_scalar_dense(shell_of(self));
}

void record_stream(at::Tensor& self, at::Stream stream) { Allocator::record(self.storage().data_ptr(), stream.id()); }

}  // namespace

C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard)

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>()); }

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("resize_", resize);
  m.impl("set_.source_Storage", set_whole);
  m.impl("set_.source_Storage_storage_offset", set_part);
  m.impl("set_.source_Tensor", set_to);
  m.impl("convolution_overrideable", torch::CppFunction::makeFromBoxedFunction<&fallback>());
  m.impl("convolution_backward_overrideable", torch::CppFunction::makeFromBoxedFunction<&fallback>());
  m.impl("_copy_from", copy_from);
  m.impl("record_stream", record_stream);
  m.impl("_local_scalar_dense", local_scalar_dense);
}

// What the Python module of the device calls.
TORCH_LIBRARY(sim, m) {
  m.def("run_later(bool on) -> ()", [](bool on) {
    streams().run_all();
    streams().later = on;
  });
  m.def("synchronize() -> ()", [] { streams().wait_for_all("synchronize"); });
  m.def("counts() -> int[]", [] {
    return std::vector<std::int64_t>{to_device.number, to_host.number, waits.number};
  });
  m.def("tell(bool on) -> ()", [](bool on) { tell = on; });
  m.def("watch() -> ()", [] { watch(); });
  m.def("take_touched() -> int", [] { return take_touched(); });
  m.def("seed(int seed) -> ()", [](std::int64_t seed) {
    at::Generator(default_generator()).set_current_seed(static_cast<std::uint64_t>(seed));
  });
  m.def("rng_state() -> Tensor", [] { return default_generator().get_state(); });
  m.def("set_rng_state(Tensor state) -> ()",
        [](const at::Tensor& state) { at::Generator(default_generator()).set_state(state); });
  m.def("touch(Tensor tensor) -> int", [](const at::Tensor& tensor) {  // as compiled code does that trusts a pointer
    return static_cast<std::int64_t>(*static_cast<const volatile unsigned char*>(tensor.const_data_ptr()));
  });
}

const bool registered = [] {
  c10::SetAllocator(c10::DeviceType::PrivateUse1, &Allocator::self());
  at::RegisterPrivateUse1HooksInterface(new Hooks);
  watch();
  return true;
}();

}  // namespace sim
