# cmake -DOUTPUT=<file.cc> -DFILES=<file;...> -P EmbedPage.cmake: writes web::PageFiles(), which has the files' bytes.
set(arrays "")
set(entries "")
set(count 0)
foreach(file IN LISTS FILES)
  get_filename_component(name ${file} NAME)
  get_filename_component(extension ${file} LAST_EXT)
  if(name STREQUAL "index.html")
    set(name "")
  endif()
  if(extension STREQUAL ".html")
    set(type "text/html; charset=utf-8")
  elseif(extension STREQUAL ".css")
    set(type "text/css; charset=utf-8")
  elseif(extension STREQUAL ".js")
    set(type "text/javascript; charset=utf-8")
  elseif(extension STREQUAL ".svg")
    set(type "image/svg+xml")
  else()
    message(FATAL_ERROR "no content type is known for ${file}")
  endif()
  file(READ ${file} bytes HEX)
  string(LENGTH "${bytes}" length)
  math(EXPR length "${length} / 2")
  string(REGEX REPLACE "(..)" "0x\\1," bytes "${bytes}")
  string(APPEND arrays "constexpr unsigned char kFile${count}[] = {${bytes}};\n")
  string(APPEND entries "      {\"/${name}\", \"${type}\", {reinterpret_cast<const char*>(kFile${count}), ${length}}},\n")
  math(EXPR count "${count} + 1")
endforeach()
file(WRITE ${OUTPUT} "#include \"web/page_files.h\"

namespace sluice::web {
namespace {

${arrays}
}  // namespace

absl::Span<const PageFile> PageFiles() {
  static const PageFile kFiles[] = {
${entries}  };
  return kFiles;
}

}  // namespace sluice::web
")
