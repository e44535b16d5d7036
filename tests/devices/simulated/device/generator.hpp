// Random numbers of the device: a state of its own, drawn as on the CPU, so that equal states give equal numbers.
#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/Generator.h>

namespace sim {

class GeneratorImpl final : public c10::GeneratorImpl {
 public:
  explicit GeneratorImpl(at::Generator drawing = at::detail::createCPUGenerator())
      : c10::GeneratorImpl({c10::DeviceType::PrivateUse1, 0}, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1)),
        drawing(std::move(drawing)) {}

  void set_current_seed(std::uint64_t seed) override { drawing.set_current_seed(seed); }
  void set_offset(std::uint64_t offset) override { drawing.set_offset(offset); }
  std::uint64_t get_offset() const override { return drawing.get_offset(); }
  std::uint64_t current_seed() const override { return drawing.current_seed(); }
  std::uint64_t seed() override { return drawing.seed(); }
  void set_state(const c10::TensorImpl& state) override { drawing.unsafeGetGeneratorImpl()->set_state(state); }
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override {
    return drawing.unsafeGetGeneratorImpl()->get_state();
  }

  mutable at::Generator drawing;

 private:
  GeneratorImpl* clone_impl() const override { return new GeneratorImpl(drawing.clone()); }
};

inline const at::Generator& default_generator() {
  static const at::Generator* one = new at::Generator(at::make_generator<GeneratorImpl>());
  return *one;
}

inline at::Generator drawing_of(const at::Generator& given) {
  TORCH_CHECK(given.device().type() == c10::DeviceType::PrivateUse1,
              "Expected a 'sim' device type for generator but found '", given.device().type(), "'");
  return static_cast<GeneratorImpl*>(given.unsafeGetGeneratorImpl())->drawing;
}

}  // namespace sim
