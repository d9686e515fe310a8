// Any bytes as a chat template: it is refused, or it renders within its limits, or it fails.

#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "base/check.h"
#include "tokenizer/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using sluice::tokenizer::ChatMessage;
  using sluice::tokenizer::ChatTemplate;
  const absl::string_view source(reinterpret_cast<const char*>(data), size);
  const auto parsed = ChatTemplate::Parse(source, {.bos_token = "<s>", .eos_token = "</s>"});
  if (!parsed.ok()) {
    CHECK(absl::IsInvalidArgument(parsed.status()) || absl::IsUnimplemented(parsed.status()));
    return 0;
  }
  const ChatMessage messages[] = {
      {"system", " Be \xF0\x9F\x98\x80.\n"}, {"user", ""}, {"assistant", "\xFFnot UTF-8\xC3"}};
  const auto text = (*parsed)->Render(messages, /*add_generation_prompt=*/true);
  CHECK(text.ok() || absl::IsInvalidArgument(text.status()) ||
        absl::IsUnimplemented(text.status()));
  return 0;
}
