// Every operator of the device: the CPU's own, run on shells when the stream comes to it.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_strided.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include <set>
#include <string>

#include "shells.hpp"

namespace sim {

using c10::OperatorHandle;
using torch::jit::Stack;

// Their results have a shape that the numbers decide: a device has to be waited for, a real one as this.
inline const std::set<std::string> kWaiting = {
    "aten::nonzero",          "aten::masked_select", "aten::_unique",           "aten::_unique2",
    "aten::unique_dim",       "aten::bincount",      "aten::repeat_interleave", "aten::equal",
    "aten::unique_consecutive"};
// These take indices from the CPU as well, and move them.
inline const std::set<std::string> kMovingIndices = {"aten::index", "aten::index_put_", "aten::_index_put_impl_"};

inline void call(const OperatorHandle& op, Stack& stack) {
  static const auto outside = c10::autograd_dispatch_keyset_with_ADInplaceOrView | c10::autocast_dispatch_keyset |
                              c10::DispatchKeySet({c10::DispatchKey::Python, c10::DispatchKey::PythonTLSSnapshot});
  const c10::impl::ExcludeDispatchKeyGuard plain(outside);
  // PyTorch 2.11 drops the arguments from the stack before it reads the references to them that many a kernel returns.
  const Stack arguments = stack;
  op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), &stack);
}

class Call {
 public:
  Call(const OperatorHandle& op, Stack arguments) : op_(op), arguments_(std::move(arguments)) { move_convolutions(); }

  Stack operator()() {
    check_devices();
    if (is_view()) return original_results(run_on(real_));
    if (draws() && !writes_alone()) return at_once(nullptr);
    if (shape_is_unknown()) return at_once(op_.schema().name().c_str());
    if (draws()) return draw();
    if (writes_alone() && !fills_empty()) return later(written());
    if (fills_empty()) return at_once(nullptr);
    return computed();
  }

 private:
  const std::vector<c10::Argument>& parameters() const { return op_.schema().arguments(); }
  const std::vector<c10::Argument>& returns() const { return op_.schema().returns(); }
  static bool is_written(const c10::Argument& each) { return each.alias_info() && each.alias_info()->isWrite(); }

  // Convolutions of a device other than PyTorch's own go to operators that the CPU has by other names.
  void move_convolutions() {
    const std::string name = op_.schema().name();
    if (name == "aten::convolution_overrideable") {
      op_ = c10::Dispatcher::singleton().findSchemaOrThrow("aten::convolution", "");
    } else if (name == "aten::convolution_backward_overrideable") {
      op_ = c10::Dispatcher::singleton().findSchemaOrThrow("aten::convolution_backward", "");
      const at::Tensor weight = arguments_[2].toTensor();
      const std::int64_t channels = arguments_[6].toBool() ? weight.size(1) * arguments_[8].toInt() : weight.size(0);
      arguments_.insert(arguments_.begin() + 3, IValue(std::vector<std::int64_t>{channels}));
    }
  }

  // As on CUDA: a number of the CPU may go along as the argument of an operator, anything larger must be moved first.
  void check_devices() {
    const std::string& name = op_.schema().name();
    for (std::size_t i = 0; i < arguments_.size(); ++i)
      arguments_[i] = each_tensor(arguments_[i], [&](const at::Tensor& tensor) {
        if (!tensor.defined() || on_device(tensor)) return tensor;
        if (tensor.is_cpu() && kMovingIndices.count(name)) {
          count(to_device, "indices from the CPU");
          count(waits, "indices from the CPU");
          return tensor.clone();
        }
        TORCH_CHECK(tensor.is_cpu() && tensor.dim() == 0 && !is_written(parameters()[i]),
                    "Expected all tensors to be on the same device, but found at least two devices, sim:0 and ",
                    tensor.device(), "! (when checking argument ", parameters()[i].name(), " of ", name, ")");
        const at::Tensor now = tensor.clone();  // whenever the work runs
        now.unsafeGetTensorImpl()->set_wrapped_number(tensor.unsafeGetTensorImpl()->is_wrapped_number());
        return now;
      });
  }

  template <class Change>
  static IValue each_tensor(const IValue& value, const Change& change) {
    return value.isTensor() || value.isTensorList() || value.isOptionalTensorList() ? changed(value, change) : value;
  }

  bool is_view() const {
    if (returns().empty()) return false;
    for (const auto& each : returns())
      if (!each.alias_info() || each.alias_info()->isWrite()) return false;
    return true;
  }

  bool shape_is_unknown() const {
    for (const auto& each : returns())
      if (each.type()->kind() != c10::TypeKind::TensorType && each.type()->kind() != c10::TypeKind::ListType) return true;
    return kWaiting.count(op_.schema().name()) > 0;
  }

  bool draws() const {
    for (const auto& each : parameters())
      if (each.name() == "generator") return true;
    return false;
  }

  bool writes_alone() const {
    for (const auto& each : returns())
      if (!is_written(each)) return false;
    return true;
  }

  // A result of no elements given by the caller is made as large as needed, which only running shows.
  bool fills_empty() const {
    for (std::size_t i = 0; i < arguments_.size(); ++i)
      if (parameters()[i].kwarg_only() && is_written(parameters()[i]) && arguments_[i].isTensor() &&
          arguments_[i].toTensor().numel() == 0)
        return true;
    return false;
  }

  Stack on_shells(Shells& shells) const {
    Stack stack;
    for (std::size_t i = 0; i < arguments_.size(); ++i) {
      stack.push_back(changed(arguments_[i], [&](const at::Tensor& t) { return on_device(t) ? shells.of(t) : t; }));
      if (parameters()[i].name() == "generator" && stack.back().isNone())
        stack.back() = drawing_of(default_generator());
    }
    return stack;
  }

  Stack run_on(Shells& shells) const {
    Stack stack = on_shells(shells);
    call(op_, stack);
    return stack;
  }

  Stack original_results(const Stack& results) const {
    Stack originals;
    for (const IValue& each : results)
      originals.push_back(changed(each, [&](const at::Tensor& result) { return real_.original(result); }));
    return originals;
  }

  Stack written() const {
    Stack results;
    for (std::size_t i = 0; i < arguments_.size() && results.size() < returns().size(); ++i)
      if (is_written(parameters()[i])) results.push_back(arguments_[i]);
    return results;
  }

  Stack later(Stack results) {
    streams().add(current_stream(), [op = op_, stack = on_shells(real_)]() mutable { call(op, stack); });
    return results;
  }

  // Drawn now, in the order of the calls, and written when the stream comes to it.
  Stack draw() {
    Shells drawn(true);
    const Stack stack = run_on(drawn);
    for (const auto& [given, numbers] : drawn.pairs())
      streams().add(current_stream(), [to = shell_of(given), from = numbers] { to.copy_(from); });
    return written();
  }

  // The stream is waited for, and the operator runs now; `why` if a real device would have to be waited for.
  Stack at_once(const char* why) {
    const Ticket before = streams().last(current_stream());
    if (why) {
      count(to_host, why);
      streams().wait(before, why);
    } else {
      streams().run({before});
    }
    Shells shells(false);
    const Stack results = run_on(shells);
    for (const auto& [given, shell] : shells.pairs()) take_layout(given, shell);
    Stack originals;
    for (const IValue& each : results)
      originals.push_back(each_tensor(each, [&](const at::Tensor& result) { return moved(shells, result); }));
    return originals;
  }

  static at::Tensor moved(const Shells& shells, const at::Tensor& result) {
    if (!result.defined()) return result;
    if (const at::Tensor known = shells.original(result); known.defined()) return known;
    const at::Tensor made = empty_as(result);
    streams().add(current_stream(), [to = shell_of(made), from = result] { to.copy_(from); });
    return made;
  }

  static at::Tensor empty_as(const at::Tensor& result) {
    const auto options = result.options().device(kDevice);
    return result.is_non_overlapping_and_dense() ? at::empty_strided(result.sizes(), result.strides(), options)
                                                 : at::empty(result.sizes(), options);
  }

  static void take_layout(const at::Tensor& given, const at::Tensor& shell) {
    if (given.sizes() == shell.sizes() && given.strides() == shell.strides()) return;
    const at::Tensor made = at::empty_strided(shell.sizes(), shell.strides(), given.options());
    streams().add(current_stream(), [to = shell_of(made), from = shell] { to.copy_(from); });
    given.unsafeGetTensorImpl()->set_storage_keep_dtype(made.storage());
    given.unsafeGetTensorImpl()->set_sizes_and_strides(made.sizes(), made.strides(), 0);
  }

  // The layout of the results is learnt on hollow shells; their numbers are computed when the stream comes to it.
  Stack computed() {
    Shells hollow(true);
    Stack like;
    try {
      like = run_on(hollow);
    } catch (const c10::Error&) {
      return at_once(nullptr);  // zeros are not good enough for it
    }
    Stack results;
    std::vector<at::Tensor> made;
    for (const IValue& each : like)
      results.push_back(each_tensor(each, [&](const at::Tensor& result) {
        if (!result.defined()) return result;
        if (const at::Tensor known = hollow.original(result); known.defined()) return known;
        made.push_back(empty_as(result));
        return made.back();
      }));
    std::vector<at::Tensor> targets;
    for (const at::Tensor& each : made) targets.push_back(shell_of(each));
    streams().add(current_stream(), [op = op_, stack = on_shells(real_), targets]() mutable {
      call(op, stack);
      std::size_t next = 0;
      for (const IValue& each : stack)
        each_tensor(each, [&](const at::Tensor& found) {
          if (found.defined() && next < targets.size()) targets[next++].copy_(found);
          return found;
        });
    });
    return results;
  }

  OperatorHandle op_;
  Stack arguments_;
  Shells real_{false};
};

inline void fallback(const OperatorHandle& op, Stack* stack) {
  const std::size_t taken = op.schema().arguments().size();
  Stack arguments(stack->end() - taken, stack->end());
  stack->resize(stack->size() - taken);
  for (IValue& each : Call(op, std::move(arguments))()) stack->push_back(std::move(each));
}

}  // namespace sim
