// The main of a fuzz target in builds without libFuzzer: runs it on every file of the folders that
// are named as arguments, and on mutations of these that are the same in every run.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

constexpr uint32_t kSeed = 1;
constexpr int kMutationsPerFile = 1000;

void RunOn(const std::string& input) {
  // A copy of exactly its size, so that a sanitizer sees a read beyond it.
  const std::vector<uint8_t> bytes(input.begin(), input.end());
  LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
}

// Changes, removes, inserts or repeats a few pieces of `input`.
std::string Mutate(std::string input, std::mt19937& random) {
  const auto below = [&](size_t limit) { return random() % limit; };
  for (size_t changes = 1 + below(4); changes > 0 && !input.empty(); --changes) {
    const size_t at = below(input.size());
    const size_t length = std::min(1 + below(8), input.size() - at);
    switch (below(5)) {
      case 0:
        input[at] = static_cast<char>(below(256));
        break;
      case 1:
        input[at] = static_cast<char>(input[at] ^ (1 << below(8)));
        break;
      case 2:
        input.erase(at, length);
        break;
      case 3:
        input.insert(at, input.substr(below(input.size()), length));
        break;
      default:
        input[at] = "0123456789-.eE\"\\{}[],:"[below(22)];
    }
  }
  return input;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::filesystem::path> paths;
  for (int i = 1; i < argc; ++i) {
    for (const auto& entry : std::filesystem::directory_iterator(argv[i])) {
      paths.push_back(entry.path());
    }
  }
  std::sort(paths.begin(), paths.end());
  std::cout << paths.size() << " files, " << kMutationsPerFile << " mutations of each, seed "
            << kSeed << std::endl;
  for (const std::filesystem::path& path : paths) {
    std::cout << path.filename() << std::endl;
    std::ifstream file(path, std::ios::binary);
    const std::string input{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    RunOn(input);
    std::mt19937 random(kSeed);
    for (int i = 0; i < kMutationsPerFile; ++i) RunOn(Mutate(input, random));
  }
  // A target without a corpus would test nothing.
  return paths.empty() ? 1 : 0;
}
