#include "golden_dir.h"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstdlib>

namespace sluice::golden {

std::filesystem::path GoldenDir() {
  const char* variable = std::getenv("SLUICE_GOLDEN_DIR");
  const std::filesystem::path dir =
      variable != nullptr && *variable != '\0' ? variable : SLUICE_SOURCE_DIR "/tests/golden";
  if (!std::filesystem::is_directory(dir)) {
    std::fprintf(stderr, "SLUICE_GOLDEN_DIR: %s is no folder\n", dir.c_str());
    std::exit(1);
  }
  return dir;
}

std::vector<std::string> GoldenCases(const std::string& kind) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(GoldenDir() / kind, error)) {
    names.push_back(entry.path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string TestName(std::string name) {
  std::replace_if(
      name.begin(), name.end(), [](unsigned char c) { return !std::isalnum(c); }, '_');
  return name;
}

}  // namespace sluice::golden
