# Writes OUTPUT, a C++ source with the JSON document INPUT in it, its version set to VERSION. String
# literals are kept short: compilers need not take more than 64 KiB in one.
cmake_minimum_required(VERSION 3.25)  # or @VERSION@ would be a variable of this script
file(READ ${INPUT} document)
string(REPLACE "@VERSION@" "${VERSION}" document "${document}")
string(REGEX REPLACE "\n *" "\n" document "${document}")
set(literals "")
string(LENGTH "${document}" length)
set(at 0)
while(at LESS length)
  string(SUBSTRING "${document}" ${at} 8000 piece)
  string(APPEND literals "    R\"openapi(${piece})openapi\"\n")
  math(EXPR at "${at} + 8000")
endwhile()
file(WRITE ${OUTPUT} "// Made from docs/openapi.json.\n#include \"api/openapi_document.hpp\"\n\nnamespace noid::api {\n\nstd::string_view openapi_document() noexcept {\n    return\n${literals};\n}\n\n}  // namespace noid::api\n")
