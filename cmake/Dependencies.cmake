# Debian 12 packages; scripts/setup-packages installs them.
find_package(Threads REQUIRED)
find_package(Boost 1.81 REQUIRED COMPONENTS json)
find_package(OpenSSL REQUIRED)
find_package(SQLite3 REQUIRED)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(CLI11 REQUIRED)
find_package(tomlplusplus REQUIRED)
find_package(GTest REQUIRED)
find_package(benchmark REQUIRED)

# Debian has no libfmt.a, so what goes into a static program (the agent) compiles fmt in. The property
# is looked up on the target that is compiled or linked, so one library can serve both kinds.
add_library(noid_fmt INTERFACE)
target_link_libraries(noid_fmt INTERFACE
  $<IF:$<BOOL:$<TARGET_PROPERTY:NOID_STATIC>>,fmt::fmt-header-only,fmt::fmt>)

find_package(PkgConfig REQUIRED)
pkg_check_modules(LIBNL REQUIRED IMPORTED_TARGET libnl-3.0 libnl-route-3.0)
pkg_check_modules(LIBNFTABLES REQUIRED IMPORTED_TARGET libnftables)
pkg_check_modules(ZSTD REQUIRED IMPORTED_TARGET libzstd)

# Asio with std::experimental and deprecated corners switched off, the same in every target.
add_library(noid_asio INTERFACE)
target_compile_definitions(noid_asio INTERFACE BOOST_ASIO_NO_DEPRECATED BOOST_ASIO_HAS_CO_AWAIT)
target_link_libraries(noid_asio INTERFACE Boost::headers Threads::Threads)
