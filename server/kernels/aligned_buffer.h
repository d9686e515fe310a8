// AlignedBuffer: an array of plain numbers that starts on a cache line, zeroed once.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <type_traits>

namespace sluice::kernels {

inline constexpr size_t kCacheLine = 64;

// Movable. Its size never changes.
template <typename T>
class AlignedBuffer {
  static_assert(std::is_trivial_v<T>);

 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(size_t size)
      : data_(static_cast<T*>(::operator new(Bytes(size), std::align_val_t(kCacheLine)))),
        size_(size) {
    std::memset(static_cast<void*>(data_.get()), 0, Bytes(size));
  }

  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  size_t size() const { return size_; }
  T& operator[](size_t i) { return data_.get()[i]; }
  const T& operator[](size_t i) const { return data_.get()[i]; }

 private:
  struct Free {
    void operator()(T* p) const { ::operator delete(p, std::align_val_t(kCacheLine)); }
  };
  // Whole cache lines: vector code may read, never write, up to the end of the last one.
  static size_t Bytes(size_t size) {
    return (size * sizeof(T) + kCacheLine - 1) / kCacheLine * kCacheLine;
  }

  std::unique_ptr<T, Free> data_;
  size_t size_ = 0;
};

}  // namespace sluice::kernels
