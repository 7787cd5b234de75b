include(GoogleTest)

# noid_library(NAME SOURCES... DEPENDS...): static library noid_NAME, included as "NAME/header.hpp".
function(noid_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS;PRIVATE_DEPENDS" ${ARGN})
  add_library(noid_${name} STATIC ${ARG_SOURCES})
  target_include_directories(noid_${name} PUBLIC ${CMAKE_SOURCE_DIR}/src)
  target_link_libraries(noid_${name} PUBLIC ${ARG_DEPENDS} noid_sanitizers
                        PRIVATE noid_warnings ${ARG_PRIVATE_DEPENDS})
endfunction()

# noid_test(NAME SOURCES... DEPENDS...): a GoogleTest program, one ctest entry per program.
function(noid_test name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPENDS} noid_warnings noid_sanitizers GTest::gtest_main GTest::gmock)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES LABELS unit TIMEOUT 120)
endfunction()

# noid_app(NAME SOURCES... DEPENDS...): a program in bin/.
function(noid_app name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPENDS} noid_warnings noid_sanitizers)
endfunction()
