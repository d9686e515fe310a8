#include "tokenizer/decoder.h"

#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "tokenizer/component.h"
#include "tokenizer/decode_stages.h"

namespace sluice::tokenizer {
namespace {

absl::StatusOr<std::unique_ptr<const Decoder::Step>> MakeStep(const std::string& type,
                                                              const JsonField& field) {
  if (type == "ByteLevel") return MakeByteLevelStep();
  if (type == "ByteFallback") return MakeByteFallbackStep();
  if (type == "Fuse") return MakeFuseStep();
  if (type == "Metaspace") {
    ASSIGN_OR_RETURN(const Metaspace metaspace, Metaspace::FromJson(field));
    return MakeMetaspaceStep(metaspace);
  }
  if (type == "Replace") {
    ASSIGN_OR_RETURN(const JsonField pattern_field, field.At("pattern"));
    ASSIGN_OR_RETURN(Pattern pattern, Pattern::FromJson(pattern_field));
    ASSIGN_OR_RETURN(const JsonField content_field, field.At("content"));
    ASSIGN_OR_RETURN(std::string content, content_field.String());
    return MakeReplaceStep(std::move(pattern), std::move(content));
  }
  if (type == "Strip") {
    constexpr int64_t kAnyNumber = std::numeric_limits<int64_t>::max();
    StripOptions options;
    ASSIGN_OR_RETURN(const JsonField content, field.At("content"));
    ASSIGN_OR_RETURN(options.content, content.Character());
    ASSIGN_OR_RETURN(const JsonField start, field.At("start"));
    ASSIGN_OR_RETURN(options.start, start.Index(kAnyNumber));
    ASSIGN_OR_RETURN(const JsonField stop, field.At("stop"));
    ASSIGN_OR_RETURN(options.stop, stop.Index(kAnyNumber));
    return MakeStripStep(options);
  }
  return field.Unimplemented(absl::StrCat("the decoder ", type, " is not supported"));
}

}  // namespace

// Collects the decoded text.
class DecodePipeline::Sink final : public DecodeStage {
 public:
  Sink() : DecodeStage(nullptr) {}

  void Push(absl::string_view fragment, bool) override {
    text_.append(fragment.data(), fragment.size());
  }
  void Finish() override {}

  std::string Take() { return std::exchange(text_, ""); }

 private:
  std::string text_;
};

DecodePipeline::DecodePipeline() : sink_(std::make_unique<Sink>()) {}
DecodePipeline::~DecodePipeline() = default;
DecodePipeline::DecodePipeline(DecodePipeline&&) noexcept = default;

std::string DecodePipeline::Push(absl::string_view token) {
  first_->Push(token, true);
  return sink_->Take();
}

std::string DecodePipeline::Finish() {
  first_->Finish();
  return sink_->Take();
}

Decoder::Decoder() { steps_.push_back(MakeJoinStep()); }
Decoder::~Decoder() = default;
Decoder::Decoder(Decoder&&) noexcept = default;
Decoder& Decoder::operator=(Decoder&&) noexcept = default;

absl::StatusOr<Decoder> Decoder::FromJson(const JsonField& field) {
  ASSIGN_OR_RETURN(const std::vector<Component> components, FlattenSequence(field, "decoders"));
  Decoder decoder;
  decoder.steps_.clear();
  bool fused = false;
  for (const Component& component : components) {
    ASSIGN_OR_RETURN(std::unique_ptr<const Step> step, MakeStep(component.type, component.field));
    decoder.forgets_ = decoder.forgets_ && step->Forgets(fused);
    fused = fused || step->fuses();
    decoder.steps_.push_back(std::move(step));
  }
  return decoder;
}

DecodePipeline Decoder::Start() const {
  DecodePipeline pipeline;
  DecodeStage* next = pipeline.sink_.get();
  for (auto step = steps_.rbegin(); step != steps_.rend(); ++step) {
    pipeline.stages_.push_back((*step)->Start(next));
    next = pipeline.stages_.back().get();
  }
  pipeline.first_ = next;
  return pipeline;
}

}  // namespace sluice::tokenizer
