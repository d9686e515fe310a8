// Where the golden data lies, and its folders as test parameters.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace sluice::golden {

// SLUICE_GOLDEN_DIR if that is set, otherwise the project's own tests/golden. Ends the program if
// it is no folder.
std::filesystem::path GoldenDir();

// Names of the entries of GoldenDir()/kind ("models", "tokenizers" or "chat_templates"), sorted;
// empty if there is none.
std::vector<std::string> GoldenCases(const std::string& kind);

// `name` with everything but letters and digits replaced by '_', as GoogleTest wants it.
std::string TestName(std::string name);

}  // namespace sluice::golden
