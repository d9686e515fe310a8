// TempFolder: a folder that only one test has, however many run at once; gone with all that is in
// it when the test ends.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>

#include "base/check.h"

namespace sluice::testing {

class TempFolder {
 public:
  TempFolder() : path_(::testing::TempDir() + "sluice_XXXXXX") {
    CHECK(mkdtemp(path_.data()) != nullptr);
  }
  ~TempFolder() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const std::string& path() const { return path_; }
  // The path of something in it.
  std::string Path(const std::string& name) const { return path_ + "/" + name; }
  // The same, of a file that holds `text`.
  std::string File(const std::string& name, const std::string& text) const {
    std::ofstream(Path(name), std::ios::trunc) << text;
    return Path(name);
  }

 private:
  std::string path_;
};

}  // namespace sluice::testing
