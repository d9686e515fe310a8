// PagedKvView: where the keys and values of one layer lie in a paged cache.
//
//   A block holds kKvBlock consecutive positions of one sequence. For each key/value head it has
//   its keys and then its values, of C channels: the head's, rounded up to a multiple of
//   kKvChannels.
//
//     f32    keys    [C][16]       position runs fastest: 16 scores are one vector
//            values  [16][C]       channel runs fastest: an output row is a sum of rows
//
//     bf16   keys    [C/2][16][2]  a line of 64 bytes is two channels of all 16 positions,
//
//              channels 0,1   | k0[0] k0[1] | k1[0] k1[1] | ... | k15[0] k15[1] |
//              channels 2,3   | k0[2] k0[3] | k1[2] k1[3] | ... | k15[2] k15[3] |
//
//            values  [16/2][C][2]  and one of two positions of 16 channels
//
//              positions 0,1  | v0[0] v1[0] | v0[1] v1[1] | ... | v0[C-1] v1[C-1] |
//              positions 2,3  | v2[0] v3[0] | v2[1] v3[1] | ... | v2[C-1] v3[C-1] |
//
//            so that a product of pairs (VDPBF16PS) takes a line as it is, against one pair of the
//            query or of the weights.
//
//   Channels beyond the head's are zero.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/element_types.h"

namespace sluice::kernels {

// Positions of a block.
inline constexpr int kKvBlock = 16;
// Channels are stored in multiples of this: whole lines of values.
inline constexpr int kKvChannels = 16;

enum class KvFormat { kF32, kBf16 };

constexpr const char* KvFormatName(KvFormat format) {
  return format == KvFormat::kF32 ? "f32" : "bf16";
}

constexpr int PaddedKvChannels(int head_dim) {
  return (head_dim + kKvChannels - 1) / kKvChannels * kKvChannels;
}

// Bytes of one head's keys in one block, which are as many as its values'.
constexpr int64_t KvBytes(KvFormat format, int head_dim) {
  return int64_t{PaddedKvChannels(head_dim)} * kKvBlock * (format == KvFormat::kF32 ? 4 : 2);
}

// Borrowed.
struct PagedKvView {
  std::byte* data = nullptr;  // block 0, head 0 of this layer; on a cache line
  int64_t block_stride = 0;   // bytes from one block to the next, whole cache lines
  int head_dim = 0;
  KvFormat format = KvFormat::kF32;

  int channels() const { return PaddedKvChannels(head_dim); }
  std::byte* keys(int32_t block, int head) const {
    return data + block * block_stride + 2 * head * KvBytes(format, head_dim);
  }
  std::byte* values(int32_t block, int head) const {
    return keys(block, head) + KvBytes(format, head_dim);
  }

  // Which element of keys() or values() belongs to a position of the block, `slot`, and a channel.
  int64_t KeyIndex(int64_t slot, int64_t channel) const {
    if (format == KvFormat::kF32) return channel * kKvBlock + slot;
    return (channel / 2 * kKvBlock + slot) * 2 + channel % 2;
  }
  int64_t ValueIndex(int64_t slot, int64_t channel) const {
    if (format == KvFormat::kF32) return slot * channels() + channel;
    return (slot / 2 * channels() + channel) * 2 + slot % 2;
  }
  float Key(int32_t block, int head, int64_t slot, int64_t channel) const {
    return LoadElement(element_type(), keys(block, head), KeyIndex(slot, channel));
  }
  float Value(int32_t block, int head, int64_t slot, int64_t channel) const {
    return LoadElement(element_type(), values(block, head), ValueIndex(slot, channel));
  }

 private:
  ElementType element_type() const {
    return format == KvFormat::kF32 ? ElementType::kF32 : ElementType::kBf16;
  }
};

}  // namespace sluice::kernels
