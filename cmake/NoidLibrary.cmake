include(GoogleTest)

# noid_library(NAME SOURCES... DEPENDS...): static library noid_NAME, included as "NAME/header.hpp".
function(noid_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS;PRIVATE_DEPENDS" ${ARGN})
  add_library(noid_${name} STATIC ${ARG_SOURCES})
  target_include_directories(noid_${name} PUBLIC ${CMAKE_SOURCE_DIR}/src)
  target_link_libraries(noid_${name} PUBLIC ${ARG_DEPENDS} noid_sanitizers
                        PRIVATE noid_warnings ${ARG_PRIVATE_DEPENDS})
endfunction()

# noid_static_copy(NAME DEPENDS...): the sources of noid_NAME once more as noid_NAME_static, small and
# without sanitizers, for the program that runs inside guests.
function(noid_static_copy name)
  cmake_parse_arguments(ARG "" "" "DEPENDS" ${ARGN})
  get_target_property(folder noid_${name} SOURCE_DIR)
  get_target_property(sources noid_${name} SOURCES)
  list(TRANSFORM sources PREPEND ${folder}/)
  add_library(noid_${name}_static STATIC ${sources})
  set_target_properties(noid_${name}_static PROPERTIES NOID_STATIC ON)
  target_include_directories(noid_${name}_static PUBLIC ${CMAKE_SOURCE_DIR}/src)
  target_compile_options(noid_${name}_static PRIVATE
    $<$<NOT:$<CONFIG:Debug>>:-Os> -ffunction-sections -fdata-sections)
  target_link_libraries(noid_${name}_static PUBLIC noid_asio noid_fmt ${ARG_DEPENDS} PRIVATE noid_warnings)
endfunction()

# noid_test(NAME SOURCES... DEPENDS...): a GoogleTest program, one ctest entry per program.
function(noid_test name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPENDS} noid_warnings noid_sanitizers GTest::gtest_main GTest::gmock)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES LABELS unit TIMEOUT 300)
endfunction()

# noid_app(NAME SOURCES... DEPENDS...): a program in bin/.
function(noid_app name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPENDS} noid_warnings noid_sanitizers)
endfunction()
