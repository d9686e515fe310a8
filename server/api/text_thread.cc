#include "api/text_thread.h"

#include <utility>

namespace sluice::api {

TextThread::TextThread(size_t max_waiting) : max_waiting_(max_waiting) {
  thread_ = std::thread([this] { Loop(); });
}

TextThread::~TextThread() {
  {
    base::MutexLock lock(mutex_);
    stopping_ = true;
  }
  changed_.NotifyOne();
  thread_.join();
}

bool TextThread::Run(std::function<void()> function) {
  {
    base::MutexLock lock(mutex_);
    if (waiting_.size() >= max_waiting_) return false;
    waiting_.push_back(std::move(function));
  }
  changed_.NotifyOne();
  return true;
}

void TextThread::Loop() {
  for (;;) {
    std::function<void()> function;
    {
      base::MutexLock lock(mutex_);
      while (waiting_.empty() && !stopping_) changed_.Wait(mutex_);
      if (waiting_.empty()) return;
      function = std::move(waiting_.front());
      waiting_.pop_front();
    }
    function();
  }
}

}  // namespace sluice::api
