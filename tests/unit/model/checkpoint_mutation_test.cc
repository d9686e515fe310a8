// Checkpoints damaged at random: an error, or a model whose every view lies in a mapped file.
#include <gtest/gtest.h>

#include <cstdint>
#include <fstream>
#include <iostream>
#include <iterator>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "model/checkpoint.h"
#include "tiny_checkpoint.h"

namespace sluice::model {
namespace {

// Where the files of a folder are mapped in this process, without the padding of the last page.
std::vector<std::pair<uintptr_t, uintptr_t>> MappedRanges(const std::string& folder,
                                                          const Files& files) {
  std::vector<std::pair<uintptr_t, uintptr_t>> ranges;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    const size_t path = line.find(folder + "/");
    if (path == std::string::npos) continue;
    const auto file = files.find(line.substr(path + folder.size() + 1));
    if (file == files.end()) continue;
    const uintptr_t begin = std::stoull(line, nullptr, 16);
    ranges.emplace_back(begin, begin + file->second.size());
  }
  return ranges;
}

// Reads all of `view`, so that a sanitizer or the kernel objects if it lies elsewhere.
uint64_t Sum(const TensorView& view) {
  uint64_t sum = 0;
  for (size_t i = 0; i < view.bytes(); ++i) sum += std::to_integer<uint64_t>(view.data[i]);
  return sum;
}

struct Outcome {
  int opened = 0;
  int refused = 0;
};

class Mutator {
 public:
  explicit Mutator(uint32_t seed) : random_(seed) {}

  // Changes one byte, or up to eight, of the first `num_bytes` of `text`: to any value, or to one
  // that JSON gives a meaning.
  void Damage(std::string& text, size_t num_bytes) {
    static constexpr char kTelling[] = "0123456789-+.eE\"\\{}[],: \ntfnNIau";
    const int num_changes = Below(3) == 0 ? 1 + static_cast<int>(Below(8)) : 1;
    for (int i = 0; i < num_changes; ++i) {
      const size_t at = Below(num_bytes);
      text[at] =
          Below(2) == 0 ? static_cast<char>(Below(256)) : kTelling[Below(sizeof(kTelling) - 1)];
    }
  }

  size_t Below(size_t limit) {
    return std::uniform_int_distribution<size_t>(0, limit - 1)(random_);
  }

 private:
  std::mt19937 random_;
};

// The part of a file that a mutation may change: the header, or all of a JSON file.
size_t MutableBytes(const std::string& name, const std::string& contents) {
  const bool is_json = name.size() > 5 && name.substr(name.size() - 5) == ".json";
  return is_json ? contents.size() : contents.size() - Unpack(contents).data.size();
}

Outcome DamageAndOpen(const Files& sound, uint32_t seed, int num_rounds) {
  Mutator mutator(seed);
  const TempFolder folder;
  folder.Fill(sound);
  std::string restore = sound.begin()->first;
  Outcome outcome;
  for (int round = 0; round < num_rounds; ++round) {
    auto file = sound.begin();
    std::advance(file, mutator.Below(sound.size()));
    std::string damaged = file->second;
    mutator.Damage(damaged, MutableBytes(file->first, file->second));
    folder.Write(restore, sound.at(restore));
    folder.Write(file->first, damaged);
    restore = file->first;
    const auto checkpoint = Checkpoint::Open(folder.path());
    if (!checkpoint.ok()) {
      ++outcome.refused;
      EXPECT_FALSE(checkpoint.status().message().empty());
      continue;
    }
    ++outcome.opened;
    const auto ranges = MappedRanges(folder.path(), sound);
    VisitTensors((*checkpoint)->tensors(), [&](const std::string& name, const TensorView& view) {
      const auto begin = reinterpret_cast<uintptr_t>(view.data);
      bool inside = false;
      for (const auto& [first, last] : ranges) {
        inside |= begin >= first && view.bytes() <= last - first && begin <= last - view.bytes();
      }
      ASSERT_TRUE(inside) << name << ", seed " << seed << ", round " << round;
      ASSERT_LT(Sum(view), std::numeric_limits<uint64_t>::max());
    });
    if (testing::Test::HasFatalFailure()) break;
  }
  return outcome;
}

constexpr uint32_t kSeed = 20240607;

TEST(CheckpointMutationTest, SingleFile) {
  const Outcome outcome = DamageAndOpen(TinyCheckpoint(), kSeed, 3000);
  std::cout << "seed " << kSeed << ": " << outcome.opened << " opened, " << outcome.refused
            << " refused\n";
  // Most damage is found; some is in what has no effect, such as the text of __metadata__.
  EXPECT_GT(outcome.refused, outcome.opened);
  EXPECT_GT(outcome.opened, 0);
}

TEST(CheckpointMutationTest, Shards) {
  const Outcome outcome = DamageAndOpen(TinyShardedCheckpoint(), kSeed + 1, 3000);
  std::cout << "seed " << kSeed + 1 << ": " << outcome.opened << " opened, " << outcome.refused
            << " refused\n";
  EXPECT_GT(outcome.refused, outcome.opened);
  EXPECT_GT(outcome.opened, 0);
}

}  // namespace
}  // namespace sluice::model
