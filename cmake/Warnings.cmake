# One place for warnings: every noid target links this.
add_library(noid_warnings INTERFACE)
target_compile_options(noid_warnings INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual
  -Wconversion -Wno-sign-conversion -Wcast-align -Wformat=2 -Wimplicit-fallthrough
  $<$<CXX_COMPILER_ID:GNU>:-Wduplicated-cond -Wlogical-op -Wno-missing-field-initializers>
  # g++ 12 inlines only one half of Asio's coroutine frame allocator and then warns about the other.
  $<$<CXX_COMPILER_ID:GNU>:-Wno-mismatched-new-delete>
  $<$<CXX_COMPILER_ID:Clang>:-Wno-missing-field-initializers>)
option(NOID_WERROR "Warnings are errors" ON)
if(NOID_WERROR)
  target_compile_options(noid_warnings INTERFACE -Werror)
endif()
