// Copies between host and device, in the order of the stream; the host waits for those that are not `non_blocking`.
#pragma once

#include <ATen/ops/empty_like.h>

#include "shells.hpp"

namespace sim {

inline bool is_pinned(const at::Tensor& host) {
  return host.is_contiguous() && Pinned::self().holds(host.storage().data());
}

// A view of memory of the host that keeps nothing alive: the copy is alone in caring that it is still there.
inline at::Tensor raw(const at::Tensor& host) {
  const c10::Storage& storage = host.storage();
  return tensor_like(host, storage_over(storage.mutable_data(), storage.nbytes()), c10::DispatchKey::CPU);
}

inline void upload(const at::Tensor& from, const at::Tensor& to, bool non_blocking) {
  count(to_device, "copy");
  const bool direct = non_blocking && is_pinned(from) && from.dtype() == to.dtype();
  const at::Tensor source = direct ? raw(from) : from.clone();
  const Ticket copy = streams().add(current_stream(), [target = shell_of(to), source] { target.copy_(source); });
  if (direct)
    Pinned::self().used_by(from.storage().data(), copy);
  else
    streams().wait(copy, "copy that is not from pinned memory with non_blocking");
}

inline void download(const at::Tensor& from, const at::Tensor& to, bool non_blocking) {
  count(to_host, "copy");
  const bool direct = non_blocking && is_pinned(to) && from.dtype() == to.dtype();
  if (direct) std::memset(to.data_ptr(), kPoison, to.nbytes());  // who reads it before the copy has run shall notice
  const Ticket copy = streams().add(current_stream(), [target = raw(to), source = shell_of(from)] {
    target.copy_(source);
  });
  if (direct)
    Pinned::self().used_by(to.storage().data(), copy);
  else
    streams().wait(copy, "copy that is not to pinned memory with non_blocking");
}

inline at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool non_blocking) {
  if (!on_device(from)) {
    upload(from, to, non_blocking);
  } else if (!on_device(to)) {
    download(from, to, non_blocking);
  } else {
    Shells shells(false);
    streams().add(current_stream(), [target = shells.of(to), source = shells.of(from)] { target.copy_(source); });
  }
  return to;
}

}  // namespace sim
