// The files of the built-in page, embedded when the server is built: see page/.
#pragma once

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace sluice::web {

struct PageFile {
  absl::string_view path;  // under which it is served, such as "/page.css"
  absl::string_view content_type;
  absl::string_view bytes;
};

// "/" is the first.
absl::Span<const PageFile> PageFiles();

}  // namespace sluice::web
