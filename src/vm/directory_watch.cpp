#include "vm/directory_watch.hpp"

#include <fmt/format.h>
#include <sys/inotify.h>

#include <array>
#include <boost/asio/buffer.hpp>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "base/fd.hpp"

namespace noid::vm {

namespace {

std::vector<std::string> names_of(std::string_view events) {
    std::vector<std::string> names;
    while (events.size() >= sizeof(inotify_event)) {
        inotify_event event{};
        std::memcpy(&event, events.data(), sizeof event);
        events.remove_prefix(sizeof event);
        const std::string_view padded = events.substr(0, event.len);
        names.emplace_back(padded.substr(0, padded.find('\0')));
        events.remove_prefix(padded.size());
    }
    return names;
}

}  // namespace

Result<DirectoryWatch> DirectoryWatch::create(asio::any_io_executor strand,
                                              const std::vector<std::filesystem::path>& directories) {
    Fd events{::inotify_init1(IN_CLOEXEC | IN_NONBLOCK)};
    if (!events) return fail_errno(errno, "watch directories");
    for (const auto& directory : directories) {
        constexpr auto what = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ONLYDIR;
        if (::inotify_add_watch(events.get(), directory.c_str(), what) < 0)
            return fail_errno(errno, fmt::format("watch {}", directory.string()));
    }
    return DirectoryWatch{asio::posix::stream_descriptor{std::move(strand), events.release()}};
}

Awaitable<Result<std::vector<std::string>>> DirectoryWatch::next() {
    alignas(inotify_event) std::array<char, 16384> bytes{};
    boost::system::error_code error;
    const std::size_t size = co_await events_.async_read_some(
        asio::buffer(bytes), asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return fail_errno(error.value(), "watch directories");
    co_return names_of({bytes.data(), size});
}

}  // namespace noid::vm
