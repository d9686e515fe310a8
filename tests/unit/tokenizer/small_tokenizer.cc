#include "small_tokenizer.h"

#include <map>

#include "absl/strings/str_join.h"

namespace sluice::tokenizer {
namespace {

using nlohmann::json;

json Patched(const json& patch) {
  json file = SmallTokenizerJson();
  if (!patch.is_null()) file.merge_patch(patch);
  return file;
}

}  // namespace

json SmallTokenizerJson() {
  json vocab = {{"<unk>", 0}};
  const auto add = [&](const std::string& token) { vocab[token] = vocab.size(); };
  for (const char c : std::string("abcdefghijklmnopqrstuvwxyzABC ")) add(std::string(1, c));
  for (const char* token : {"▁", "_", "1", "2", "3", ".", "é", "~", "<0xC3>", "<0xA8>"}) add(token);
  return {{"version", "1.0"},
          {"model",
           {{"type", "BPE"}, {"unk_token", "<unk>"}, {"vocab", vocab}, {"merges", json::array()}}}};
}

json AddedTokenJson(int id, const std::string& content, const std::vector<std::string>& flags) {
  json token = {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
                {"rstrip", false}, {"normalized", false}, {"special", false}};
  for (const std::string& flag : flags) token[flag] = true;
  return token;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeTokenizer(const json& patch) {
  return Tokenizer::Parse(Patched(patch).dump(), "small.json");
}

std::string EncodeToText(const json& patch, const std::string& text, bool add_special_tokens) {
  const auto tokenizer = MakeTokenizer(patch);
  if (!tokenizer.ok()) return tokenizer.status().ToString();
  const auto ids = (*tokenizer)->Encode(text, {.add_special_tokens = add_special_tokens});
  if (!ids.ok()) return ids.status().ToString();
  const json file = Patched(patch);
  std::map<TokenId, std::string> texts;
  for (const auto& [token, id] : file["model"]["vocab"].items()) texts[id.get<TokenId>()] = token;
  for (const json& token : file.value("added_tokens", json::array())) {
    texts[token["id"].get<TokenId>()] = token["content"].get<std::string>();
  }
  return absl::StrJoin(*ids, "|", [&](std::string* out, TokenId id) { *out += texts[id]; });
}

}  // namespace sluice::tokenizer
