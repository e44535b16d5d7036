// Shells: tensors of the CPU over the bytes behind a device tensor, for the CPU's own operators to run on.
#pragma once

#include <ATen/EmptyTensor.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros.h>
#include <c10/core/CPUAllocator.h>

#include <unordered_map>

#include "generator.hpp"
#include "memory.hpp"

namespace sim {

using c10::IValue;
inline const c10::Device kDevice(c10::DeviceType::PrivateUse1, 0);

inline bool on_device(const at::Tensor& tensor) { return tensor.defined() && tensor.is_privateuseone(); }

inline c10::Storage storage_over(void* bytes, std::size_t size) {
  return c10::make_intrusive<c10::StorageImpl>(c10::StorageImpl::use_byte_size_t(), size, at::DataPtr(bytes, c10::kCPU),
                                               c10::GetCPUAllocator(), /*resizable=*/true);
}

inline at::Tensor tensor_like(const at::Tensor& layout, c10::Storage storage, c10::DispatchKey key) {
  auto made = at::detail::make_tensor<at::TensorImpl>(std::move(storage), c10::DispatchKeySet(key), layout.dtype());
  auto* impl = made.unsafeGetTensorImpl();
  impl->set_sizes_and_strides(layout.sizes(), layout.strides(), layout.storage_offset());
  if (layout.is_conj()) impl->_set_conj(true);
  if (layout.is_neg()) impl->_set_neg(true);
  return made;
}

// All shells of one call: tensors that share memory on the device share it here.
class Shells {
 public:
  // `hollow` shells have the layout alone, over zeros: operators run on them to learn the layout of their results.
  explicit Shells(bool hollow) : hollow_(hollow) {}

  at::Tensor of(const at::Tensor& given) {
    const c10::Storage& storage = given.storage();
    auto found = storages_.find(storage.unsafeGetStorageImpl());
    if (found == storages_.end()) {
      c10::Storage bytes =
          hollow_ ? at::zeros({static_cast<std::int64_t>(storage.nbytes())}, at::kByte).storage()
                  : storage_over(space().behind(storage.mutable_data()), storage.nbytes());
      found = storages_.emplace(storage.unsafeGetStorageImpl(), bytes).first;
      originals_.emplace(bytes.unsafeGetStorageImpl(), storage);
    }
    at::Tensor shell = tensor_like(given, found->second, c10::DispatchKey::CPU);
    pairs_.emplace_back(given, shell);
    return shell;
  }

  // The device tensor that a result stands for, where its memory is that of an argument; undefined where it is new.
  at::Tensor original(const at::Tensor& result) const {
    for (const auto& [given, shell] : pairs_)
      if (shell.is_same(result)) return given;
    const auto found = originals_.find(result.storage().unsafeGetStorageImpl());
    return found == originals_.end() ? at::Tensor() : tensor_like(result, found->second, c10::DispatchKey::PrivateUse1);
  }

  const std::vector<std::pair<at::Tensor, at::Tensor>>& pairs() const { return pairs_; }

 private:
  bool hollow_;
  std::unordered_map<c10::StorageImpl*, c10::Storage> storages_;
  std::unordered_map<c10::StorageImpl*, c10::Storage> originals_;
  std::vector<std::pair<at::Tensor, at::Tensor>> pairs_;
};

inline at::Tensor shell_of(const at::Tensor& given) { return Shells(false).of(given); }

// The same arguments with another tensor for each; generators and devices become those of the CPU.
template <class Change>
IValue changed(const IValue& value, const Change& change) {
  if (value.isTensor()) return change(value.toTensor());
  if (value.isTensorList()) {
    c10::List<at::Tensor> list;
    for (const at::Tensor& each : value.toTensorVector()) list.push_back(change(each));
    return list;
  }
  if (value.isOptionalTensorList()) {
    c10::List<std::optional<at::Tensor>> list;
    for (const std::optional<at::Tensor>& each : value.toOptionalTensorList())
      list.push_back(each ? std::optional<at::Tensor>(change(*each)) : std::nullopt);
    return list;
  }
  if (value.isDevice()) return c10::Device(c10::kCPU);
  if (value.isGenerator()) return drawing_of(value.toGenerator());
  return value;
}

}  // namespace sim
