// AttentionKernel: attention of many query rows to the cached positions of one key/value head, as a
// table of functions with one implementation per instruction set.
//
// Flash style (arXiv:2205.14135) in three steps. The context is cut into spans of kAttentionSpan
// positions at absolute places, and each span into chunks of kAttentionChunk.
//
//   attend   within a span: softmax from a fresh state, in f32, with one rescale for each chunk;
//            spans are then merged in order of position
//   merge    the same merge, for spans that were computed apart
//   finish   divides by the sum
//
// So a row's result depends on its query and on the positions that it sees, bit by bit: not on the
// rows beside it, nor on which spans were computed apart.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/paged_kv.h"

namespace sluice::kernels {

inline constexpr int kAttentionSpan = 512;
inline constexpr int kAttentionChunk = 64;
inline constexpr int kAttentionLanes = 16;
// As good as none.
inline constexpr int64_t kMaxAttentionWindow = int64_t{1} << 48;

// The queries of consecutive tokens of one sequence: row r is head r % group of token r / group.
// Plain data, since code for one instruction set reads it.
struct AttentionTile {
  // The key/value head: keys of block b lie at head + b * block_stride, and its values
  // values_offset bytes behind them.
  KvFormat format = KvFormat::kF32;
  const std::byte* head = nullptr;
  int64_t block_stride = 0;
  int64_t values_offset = 0;
  int head_dim = 0;
  int channels = 0;  // PaddedKvChannels(head_dim)
  // Blocks that hold no position in sight of a row are not looked up.
  const int32_t* block_table = nullptr;

  const float* q = nullptr;  // row r at q + r / group * token_stride + r % group * head_dim
  int64_t token_stride = 0;
  int num_tokens = 0;
  int group = 1;
  int64_t first_position = 0;  // of token 0
  int64_t window = 0;  // a token at position p sees (p - window, p]; 1 to kMaxAttentionWindow
  float scale = 1;     // of the scores

  int rows() const { return num_tokens * group; }
};

// Softmax over a part of the context, for each row; what the numbers mean is the implementation's.
// Values are not yet divided by the sum. The row saw nothing if its max is -infinity.
struct AttentionPartial {
  float* max = nullptr;     // [rows]
  float* sum = nullptr;     // [rows][kAttentionLanes], to be added up
  float* values = nullptr;  // [rows][channels]
};

// Floats that a partial of so many rows needs, and where it lies in them; `data` on a cache line.
constexpr int64_t AttentionPartialFloats(int64_t rows, int channels) {
  return rows * (channels + kAttentionLanes) + (rows + 15) / 16 * 16;
}
inline AttentionPartial AttentionPartialAt(float* data, int64_t rows, int channels) {
  float* sum = data + rows * channels;
  return {.max = sum + rows * kAttentionLanes, .sum = sum, .values = data};
}

// Memory that attend works in.
struct AttentionScratch {
  float* queries = nullptr;  // [rows * channels]
  AttentionPartial span;     // for the rows of the tile
};

// Slots of a block behind the last position of its sequence must hold finite values, as they are
// multiplied by zero; keys may be anything there. The same goes for values at positions that one
// row of a tile sees and another does not: with finite ones a row's bits do not depend on the tile,
// with NaN or infinity its sequence is lost in any case.
struct AttentionKernel {
  const char* name;

  // Spans [first_span, last_span) of the context, merged.
  void (*attend)(const AttentionTile& tile, int64_t first_span, int64_t last_span,
                 const AttentionScratch& scratch, const AttentionPartial& result);

  // into = into and then `from`, which lies behind it in the context.
  void (*merge)(int64_t rows, int channels, const AttentionPartial& from,
                const AttentionPartial& into);

  // One row's result, [head_dim]. NaN if the row saw nothing.
  void (*finish)(const AttentionPartial& partial, int64_t row, int channels, int head_dim,
                 float* out);
};

// Null if the program was not built for this instruction set. The last one multiplies a bf16 cache
// in bf16: it rounds queries and softmax weights to bf16. The others compute in f32 throughout.
const AttentionKernel* Avx2Attention();
const AttentionKernel* Avx512Attention();
const AttentionKernel* Avx512Bf16Attention();

}  // namespace sluice::kernels
