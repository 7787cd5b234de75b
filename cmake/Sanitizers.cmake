set(NOID_SANITIZE "" CACHE STRING "Sanitizers for our own binaries, as -fsanitize= takes them")
# Every library, test and program links this, except what runs inside a guest: the agent is PID 1 of a
# machine that has no sanitizer run-time, and is linked statically.
add_library(noid_sanitizers INTERFACE)
if(NOID_SANITIZE)
  target_compile_options(noid_sanitizers INTERFACE
    -fsanitize=${NOID_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  # AddressSanitizer stops at a null pointer by itself, and x86 forgives misalignment; both checks at
  # every member access double the time that coroutines take to compile.
  if(NOID_SANITIZE MATCHES "undefined")
    target_compile_options(noid_sanitizers INTERFACE -fno-sanitize=null,alignment)
  endif()
  target_link_options(noid_sanitizers INTERFACE -fsanitize=${NOID_SANITIZE})
endif()
option(NOID_FUZZ "Build the libFuzzer targets (clang)" OFF)
if(NOID_FUZZ)
  # libFuzzer is led by what the libraries under test do.
  target_compile_options(noid_sanitizers INTERFACE -fsanitize=fuzzer-no-link)
endif()
