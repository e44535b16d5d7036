// What PyTorch asks of a device about its streams and events.
#pragma once

#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <chrono>
#include <memory>

#include "shells.hpp"

namespace sim {

struct Event {
  Ticket ticket;
  std::shared_ptr<std::chrono::steady_clock::time_point> time =
      std::make_shared<std::chrono::steady_clock::time_point>();
};

struct Guard final : c10::impl::DeviceGuardImplInterface {
  static c10::Stream stream_of(c10::StreamId id) { return c10::Stream(c10::Stream::UNSAFE, kDevice, id); }

  c10::DeviceType type() const override { return c10::DeviceType::PrivateUse1; }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  c10::Device getDevice() const override { return kDevice; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Device exchangeDevice(c10::Device) const override { return kDevice; }

  c10::Stream getStream(c10::Device) const override { return stream_of(current_stream()); }
  c10::Stream getDefaultStream(c10::Device) const override { return stream_of(0); }
  c10::Stream getNewStream(c10::Device, int) const override { return stream_of(streams().make()); }
  c10::Stream getStreamFromGlobalPool(c10::Device, bool) const override { return stream_of(streams().make()); }
  c10::Stream exchangeStream(c10::Stream stream) const override {
    return stream_of(std::exchange(current_stream(), stream.id()));
  }
  bool queryStream(const c10::Stream& stream) const override { return streams().reached({streams().last(stream.id())}); }
  void synchronizeStream(const c10::Stream& stream) const override {
    streams().wait(streams().last(stream.id()), "synchronize a stream");
  }
  void synchronizeDevice(c10::DeviceIndex) const override { streams().wait_for_all("synchronize the device"); }
  void recordDataPtrOnStream(const c10::DataPtr& data, const c10::Stream& stream) const override {
    Allocator::record(data, stream.id());
  }

  void record(void** event, const c10::Stream& stream, c10::DeviceIndex, c10::EventFlag) const override {
    if (!*event) *event = new Event;
    auto* one = static_cast<Event*>(*event);
    one->ticket = streams().add(stream.id(), [time = one->time] { *time = std::chrono::steady_clock::now(); });
  }
  void block(void* event, const c10::Stream& stream) const override {
    if (event) streams().follow(stream.id(), static_cast<Event*>(event)->ticket);
  }
  bool queryEvent(void* event) const override { return !event || streams().reached({static_cast<Event*>(event)->ticket}); }
  void synchronizeEvent(void* event) const override {
    if (event) streams().wait(static_cast<Event*>(event)->ticket, "synchronize an event");
  }
  void destroyEvent(void* event, c10::DeviceIndex) const noexcept override { delete static_cast<Event*>(event); }
  double elapsedTime(void* first, void* second, c10::DeviceIndex) const override {
    return std::chrono::duration<double, std::milli>(*static_cast<Event*>(second)->time -
                                                     *static_cast<Event*>(first)->time).count();
  }
};

}  // namespace sim
