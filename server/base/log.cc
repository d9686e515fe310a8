#include "base/log.h"

#include <spdlog/sinks/base_sink.h>

#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/line_writer.h"

namespace sluice::base {
namespace {

constexpr size_t kMaxWaitingBytes = 1 << 20;

// spdlog's own asynchronous logger counts messages, whatever their size, and cannot be left without
// waiting for its thread.
class Sink : public spdlog::sinks::base_sink<std::mutex> {
 public:
  Sink()
      : lines_(LineWriter::ForStderr(), kMaxWaitingBytes,
               [this](const LineWriter::Progress& progress) { OnProgress(progress); }) {}

  // A line that is lost is counted by the next one.
  void AddPlain(std::string line) { static_cast<void>(lines_.Add(std::move(line))); }

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t text;
    formatter_->format(message, text);
    // Without the end of line.
    AddPlain(std::string(text.data(), text.size() - 1));
  }
  void flush_() override {}

  // Says what was lost once all is well again: on a file that takes nothing, saying it would go on
  // for ever.
  void OnProgress(const LineWriter::Progress& progress) {
    num_lost_ += progress.num_refused + (progress.error != 0 ? 1 : 0);
    if (progress.error != 0 || !progress.is_last || num_lost_ == 0) return;
    Log().error("{} lines of the log are lost: standard error did not take them in time",
                std::exchange(num_lost_, 0));
  }

  // Only the writer's thread uses it.
  size_t num_lost_ = 0;
  LineWriter::Source lines_;
};

// Not destroyed, nor is the logger: threads may log until the process is gone.
const std::shared_ptr<Sink>& TheSink() {
  static const auto& sink = *[] {
    std::atexit(FlushLog);
    return new std::shared_ptr<Sink>(std::make_shared<Sink>());
  }();
  return sink;
}

}  // namespace

spdlog::logger& Log() {
  static spdlog::logger& logger = *[] {
    auto* made = new spdlog::logger("sluice", TheSink());
    made->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l %v");
    // What spdlog would write to standard error by itself, and wait.
    made->set_error_handler([](const std::string& what) { LogPlainLine("spdlog: " + what); });
    return made;
  }();
  return logger;
}

absl::Status InitLog(absl::string_view level) {
  if (level != "debug" && level != "info" && level != "warning" && level != "error") {
    return absl::InvalidArgumentError(
        absl::StrCat("log_level must be debug, info, warning or error, not \"", level, "\""));
  }
  Log().set_level(spdlog::level::from_str(std::string(level)));
  return absl::OkStatus();
}

void LogPlainLine(std::string line) { TheSink()->AddPlain(std::move(line)); }

void FlushLog() { LineWriter::ForStderr().Flush(kLogFarewellTime); }

}  // namespace sluice::base
