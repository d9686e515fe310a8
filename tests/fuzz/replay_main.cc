// A main for fuzz targets where there is no libFuzzer: runs every file of a corpus folder, and
// copies of it with seeded changes.
//
//   <target> <corpus folder> [<changed copies of each file>]
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

constexpr uint32_t kSeed = 1;
constexpr int kDefaultCopies = 1000;

// Data of the exact size, so that reading past its end is noticed.
void Run(const std::string& input) {
  const std::vector<uint8_t> data(input.begin(), input.end());
  LLVMFuzzerTestOneInput(data.data(), data.size());
}

// One to four changes: a byte set, a stretch cut out, moved or doubled, or the end cut off.
std::string Change(std::string input, std::mt19937& random) {
  // Bytes that mean something in many formats, besides random ones.
  constexpr char kBytes[] = {'\0', '\x7f', '\x80', '\xff', '"', '{', '}', '[', ']', ',', '0', '-'};
  for (uint32_t changes = 1 + random() % 4; changes > 0 && !input.empty(); --changes) {
    const size_t at = random() % input.size();
    const size_t length = std::min<size_t>(1 + random() % 32, input.size() - at);
    switch (random() % 5) {
      case 0:
        input[at] = random() % 2 == 0 ? kBytes[random() % std::size(kBytes)]
                                      : static_cast<char>(random() % 256);
        break;
      case 1:
        input.erase(at, length);
        break;
      case 2:
        input.insert(random() % (input.size() + 1), input.substr(at, length));
        break;
      case 3:
        input.replace(random() % input.size(), length, input.substr(at, length));
        break;
      default:
        if (random() % 8 == 0) input.resize(at);
        break;
    }
  }
  return input;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s <corpus folder> [<changed copies of each file>]\n", argv[0]);
    return 2;
  }
  const int num_copies = argc > 2 ? std::atoi(argv[2]) : kDefaultCopies;
  std::vector<std::filesystem::path> files;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(argv[1], error)) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  if (error || files.empty()) {
    std::fprintf(stderr, "%s: no corpus: %s\n", argv[1], error.message().c_str());
    return 1;
  }
  std::sort(files.begin(), files.end());
  std::mt19937 random(kSeed);
  for (const std::filesystem::path& file : files) {
    std::ifstream stream(file, std::ios::binary);
    const std::string input{std::istreambuf_iterator<char>(stream), {}};
    Run(input);
    for (int i = 0; i < num_copies; ++i) Run(Change(input, random));
  }
  std::printf("ran %zu files and %d changed copies of each, seed %u\n", files.size(), num_copies,
              kSeed);
  return 0;
}
