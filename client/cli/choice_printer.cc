#include "cli/choice_printer.h"

#include <algorithm>
#include <ostream>
#include <utility>

namespace sluice::cli {

ChoicePrinter::ChoicePrinter(int num_choices, std::ostream& out)
    : choices_(std::max(num_choices, 1)), out_(out) {}

void ChoicePrinter::Add(const v1::GenerateResponse& event) {
  const bool finished = event.has_finished();
  if (!finished && !event.has_delta()) return;
  const int number = finished ? event.finished().choice() : event.delta().choice();
  // What nobody asked for is not shown.
  if (number < 0 || static_cast<size_t>(number) >= choices_.size()) return;
  Choice& choice = choices_[number];
  choice.text += event.delta().text();
  choice.complete = choice.complete || finished;

  Show(choices_[current_]);
  while (choices_[current_].complete && current_ + 1 < choices_.size()) {
    out_ << "\n";
    Show(choices_[++current_]);
  }
  out_ << std::flush;
}

void ChoicePrinter::Finish(bool complete) {
  for (++current_; current_ < choices_.size(); ++current_) {
    if (choices_[current_].text.empty()) continue;
    if (has_printed_) out_ << "\n";
    Show(choices_[current_]);
  }
  if (complete || has_printed_) out_ << std::endl;
}

void ChoicePrinter::Show(Choice& choice) {
  if (choice.text.empty() && !choice.complete) return;
  if (choices_.size() > 1 && !std::exchange(choice.has_heading, true)) {
    out_ << "[choice " << &choice - choices_.data() << "]\n";
    has_printed_ = true;
  }
  if (choice.num_shown == choice.text.size()) return;
  out_ << choice.text.substr(choice.num_shown);
  choice.num_shown = choice.text.size();
  has_printed_ = true;
}

}  // namespace sluice::cli
