#pragma once

#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>

#include "base/error.hpp"
#include "base/fd.hpp"

namespace noid::agent {

// One request to the kernel's network configuration (rtnetlink(7)): a header that belongs to its
// type (ifinfomsg, ifaddrmsg, rtmsg, ndmsg), then attributes. Requests are small and fixed: adding
// more than fits is a bug and aborts.
class RoutingRequest {
  public:
    template <class Header>
    RoutingRequest(std::uint16_t type, std::uint16_t flags, const Header& header)
        : type_{type}, flags_{flags} {
        static_assert(std::is_trivially_copyable_v<Header>);
        append(std::as_bytes(std::span{&header, 1}));
    }
    template <class Value>
    RoutingRequest& with(std::uint16_t attribute, const Value& value) {
        static_assert(std::is_trivially_copyable_v<Value> && !std::is_pointer_v<Value>);
        return with_bytes(attribute, std::as_bytes(std::span{&value, 1}));
    }
    // A name: the bytes and a terminating zero.
    RoutingRequest& with_name(std::uint16_t attribute, std::string_view name);

    // The whole message, to be sent under this number.
    [[nodiscard]] std::span<const std::byte> finished(std::uint32_t sequence);

  private:
    RoutingRequest& with_bytes(std::uint16_t attribute, std::span<const std::byte> value);
    void append(std::span<const std::byte> bytes);

    std::uint16_t type_;
    std::uint16_t flags_;
    alignas(nlmsghdr) std::array<std::byte, 256> message_{};
    std::size_t size_ = NLMSG_HDRLEN;
};

// An entry of one of the kernel's tables, as a listing gives it. Valid during the call only.
class RoutingEntry {
  public:
    explicit RoutingEntry(std::span<const std::byte> payload) : payload_{payload} {}

    // The header, which the caller knows by what it asked for; nothing if the entry is too short.
    template <class Header>
    [[nodiscard]] std::optional<Header> header() const {
        if (payload_.size() < sizeof(Header)) return std::nullopt;
        Header header;
        std::memcpy(&header, payload_.data(), sizeof header);
        return header;
    }
    // An attribute behind a header of type Header; nothing if it is absent or of another size.
    template <class Value, class Header>
    [[nodiscard]] std::optional<Value> attribute(std::uint16_t number) const {
        const auto bytes = find_attribute(NLMSG_ALIGN(sizeof(Header)), number);
        if (bytes.size() != sizeof(Value)) return std::nullopt;
        Value value;
        std::memcpy(&value, bytes.data(), sizeof value);
        return value;
    }

  private:
    [[nodiscard]] std::span<const std::byte> find_attribute(std::size_t begin, std::uint16_t number) const;

    std::span<const std::byte> payload_;
};

// A connection to the kernel's network configuration. The kernel answers each request at once, so
// the calls block for as long as the change itself takes.
class RoutingSocket {
  public:
    [[nodiscard]] static Result<RoutingSocket> open();

    // Makes a change. `doing` begins the error's text.
    [[nodiscard]] Result<void> change(RoutingRequest request, std::string_view doing);
    // Calls `each` for every entry that the request, with NLM_F_DUMP, asks for.
    [[nodiscard]] Result<void> list(RoutingRequest request,
                                    const std::function<void(const RoutingEntry&)>& each);

  private:
    explicit RoutingSocket(Fd socket) : socket_{std::move(socket)} {}
    [[nodiscard]] Result<void> exchange(RoutingRequest& request,
                                        const std::function<void(const RoutingEntry&)>& each);

    Fd socket_;
    std::uint32_t sequence_ = 0;
};

}  // namespace noid::agent
