# add_room and add_room_test: one CMake target per room of docs/architecture.md.
#
# A room's headers are reachable only through a folder of its own (rooms/<name>/<name> -> server/<name>), so including
# "model/config.h" compiles only in targets that link sluice_model: an arrow that the design does not have fails the build.

set(SLUICE_WARNINGS -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Wno-unused-parameter
    -Wno-missing-field-initializers $<$<CXX_COMPILER_ID:Clang>:-Wthread-safety>
    # g++ 12 takes a std::optional that was tested for one that was not.
    $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
if(SLUICE_WERROR)
  list(APPEND SLUICE_WARNINGS -Werror)
endif()

# Flags that every target of the project is built with.
add_library(sluice_flags INTERFACE)
target_compile_options(sluice_flags INTERFACE ${SLUICE_WARNINGS})
if(SLUICE_SANITIZE)
  target_compile_options(sluice_flags INTERFACE
    -fsanitize=${SLUICE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(sluice_flags INTERFACE -fsanitize=${SLUICE_SANITIZE})
endif()

# add_room(<name> SOURCES ... HEADERS ... [ROOMS ...] [LIBRARIES ...] [PRIVATE_LIBRARIES ...])
#   ROOMS              rooms whose headers this one may include (they become visible to its users too)
#   LIBRARIES          packages that its headers use;  PRIVATE_LIBRARIES  packages that only its sources use
function(add_room name)
  cmake_parse_arguments(ROOM "" "" "SOURCES;HEADERS;ROOMS;LIBRARIES;PRIVATE_LIBRARIES" ${ARGN})
  set(target sluice_${name})
  set(include_root ${CMAKE_BINARY_DIR}/rooms/${name})
  file(MAKE_DIRECTORY ${include_root})
  file(CREATE_LINK ${CMAKE_CURRENT_SOURCE_DIR} ${include_root}/${name} SYMBOLIC)
  if(ROOM_SOURCES)
    add_library(${target} STATIC ${ROOM_SOURCES})
    set(scope PUBLIC)
    target_link_libraries(${target} PRIVATE sluice_flags ${ROOM_PRIVATE_LIBRARIES})
  else()
    add_library(${target} INTERFACE)
    set(scope INTERFACE)
  endif()
  list(TRANSFORM ROOM_HEADERS PREPEND ${include_root}/${name}/)
  target_sources(${target} ${scope} FILE_SET HEADERS BASE_DIRS ${include_root} FILES ${ROOM_HEADERS})
  list(TRANSFORM ROOM_ROOMS PREPEND sluice_)
  target_link_libraries(${target} ${scope} ${ROOM_ROOMS} ${ROOM_LIBRARIES})
endfunction()

# add_room_test(<name> SOURCES ... [ROOMS ...] [LIBRARIES ...] [ARGUMENTS ...]): one GoogleTest binary, one ctest entry.
function(add_room_test name)
  cmake_parse_arguments(TEST "" "" "SOURCES;ROOMS;LIBRARIES;ARGUMENTS" ${ARGN})
  add_executable(${name} ${TEST_SOURCES})
  list(TRANSFORM TEST_ROOMS PREPEND sluice_)
  target_link_libraries(${name} PRIVATE sluice_flags ${TEST_ROOMS} ${TEST_LIBRARIES} GTest::gmock_main GTest::gtest)
  target_compile_definitions(${name} PRIVATE SLUICE_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  add_test(NAME ${name} COMMAND ${name} ${TEST_ARGUMENTS})
endfunction()
