#include "proto/codec.hpp"

#include <boost/endian/conversion.hpp>
#include <cmath>
#include <concepts>
#include <cstring>
#include <type_traits>

namespace noid::proto {
namespace {

namespace endian = boost::endian;

constexpr std::size_t max_path = 4096;        // PATH_MAX
constexpr std::size_t max_word = 128 * 1024;  // MAX_ARG_STRLEN of Linux
constexpr std::size_t max_name = 256;

enum class Nul : std::uint8_t { refused, allowed };

// Encoder and Decoder have the same members, so that each message is described once, below.
class Encoder {
  public:
    static constexpr bool decoding = false;
    [[nodiscard]] std::string take() { return std::move(out_); }

    template <class T>
    requires std::integral<T> || std::is_enum_v<T>
    void number(const T& value) {
        std::uint64_t wide = static_cast<std::uint64_t>(value);
        unsigned char raw[8];
        endian::store_little_u64(raw, wide);
        out_.append(reinterpret_cast<const char*>(raw), sizeof(T));
    }
    template <class T>
    void choice(const T& value, T /*last*/) {
        number(value);
    }
    void real(const double& value) {
        std::uint64_t bits;
        std::memcpy(&bits, &value, sizeof bits);
        number(bits);
    }
    void text(const std::string& value, std::size_t /*max*/, Nul = Nul::refused) {
        number(static_cast<std::uint32_t>(value.size()));
        out_.append(value);
    }
    template <std::size_t N>
    void raw(const std::array<std::byte, N>& value) {
        out_.append(reinterpret_cast<const char*>(value.data()), N);
    }
    template <class T, class Each>
    void list(const std::vector<T>& values, std::size_t /*max*/, Each each) {
        number(static_cast<std::uint32_t>(values.size()));
        for (const T& value : values) each(*this, value);
    }
    template <class T, class Each>
    void maybe(const std::optional<T>& value, Each each) {
        number(static_cast<std::uint8_t>(value.has_value()));
        if (value) each(*this, *value);
    }

  private:
    std::string out_;
};

class Decoder {
  public:
    static constexpr bool decoding = true;
    explicit Decoder(std::string_view bytes) : rest_{bytes} {}

    [[nodiscard]] bool good() const noexcept { return why_ == nullptr; }
    [[nodiscard]] const char* why() const noexcept { return why_; }
    [[nodiscard]] bool at_end() const noexcept { return rest_.empty(); }
    void refuse(const char* why) noexcept {
        if (!why_) why_ = why;
        rest_ = {};
    }

    template <class T>
    requires std::integral<T> || std::is_enum_v<T>
    void number(T& value) {
        const std::string_view bytes = take(sizeof(T));
        if (bytes.empty()) return;
        unsigned char raw[8] = {};
        std::memcpy(raw, bytes.data(), sizeof(T));
        const std::uint64_t wide = endian::load_little_u64(raw);
        if constexpr (std::is_same_v<T, bool>) {
            if (wide > 1) return refuse("a truth value that is neither 0 nor 1");
        }
        value = static_cast<T>(wide);
    }
    // An enum from its first value (0 or more) to `last`.
    template <class T>
    void choice(T& value, T last) {
        std::underlying_type_t<T> plain = 0;
        number(plain);
        if (plain > static_cast<std::underlying_type_t<T>>(last)) return refuse("an unknown choice");
        value = static_cast<T>(plain);
    }
    void real(double& value) {
        std::uint64_t bits = 0;
        number(bits);
        std::memcpy(&value, &bits, sizeof value);
        if (!std::isfinite(value)) refuse("a number that is none");
    }
    void text(std::string& value, std::size_t max, Nul nul = Nul::refused) {
        std::uint32_t size = 0;
        number(size);
        if (size > max) return refuse("a text longer than its bound");
        const std::string_view bytes = take(size);
        if (nul == Nul::refused && bytes.find('\0') != std::string_view::npos) return refuse("NUL in a text");
        value.assign(bytes);
    }
    template <std::size_t N>
    void raw(std::array<std::byte, N>& value) {
        const std::string_view bytes = take(N);
        if (!bytes.empty()) std::memcpy(value.data(), bytes.data(), N);
    }
    template <class T, class Each>
    void list(std::vector<T>& values, std::size_t max, Each each) {
        std::uint32_t count = 0;
        number(count);
        if (count > max) return refuse("a list longer than its bound");
        for (std::uint32_t i = 0; i < count && good(); ++i) each(*this, values.emplace_back());
    }
    template <class T, class Each>
    void maybe(std::optional<T>& value, Each each) {
        bool there = false;
        number(there);
        if (there && good()) each(*this, value.emplace());
    }

  private:
    std::string_view take(std::size_t count) {
        if (rest_.size() < count) {
            refuse("it ends too early");
            return {};
        }
        const std::string_view bytes = rest_.substr(0, count);
        rest_.remove_prefix(count);
        return bytes;
    }

    std::string_view rest_;
    const char* why_ = nullptr;
};

// T in an Encoder is const, in a Decoder it is not.
template <class A, class T>
using Subject = std::conditional_t<A::decoding, T&, const T&>;

const auto each_word = [](auto& a, auto& word) { a.text(word, max_word); };

template <class A>
void milliseconds(A& a, Subject<A, std::chrono::milliseconds> value) {
    std::int64_t count = value.count();
    a.number(count);
    if constexpr (A::decoding) {
        if (count < 0) return a.refuse("a duration below zero");
        value = std::chrono::milliseconds{count};
    }
}

// ---- each message, once ----

template <class A>
void fields(A& a, Subject<A, OutputOffsets> m) {
    a.number(m.out);
    a.number(m.err);
}
template <class A>
void fields(A& a, Subject<A, TerminalSize> m) {
    a.number(m.columns);
    a.number(m.rows);
}
template <class A>
void fields(A& a, Subject<A, Exec> m) {
    a.list(m.argv, max_arguments, each_word);
    a.list(m.env, max_arguments, each_word);
    a.text(m.cwd, max_path);
    a.text(m.user, max_name);
    a.maybe(m.tty, [](auto& archive, auto& size) { fields<A>(archive, size); });
    a.number(m.merge_error_output);
    a.number(m.input);
    milliseconds(a, m.time_limit);
}
template <class A>
void fields(A& a, Subject<A, FileRead> m) {
    a.text(m.path, max_path);
    a.number(m.offset);
}
template <class A>
void fields(A& a, Subject<A, FileWrite> m) {
    a.text(m.path, max_path);
    a.number(m.mode);
    a.text(m.user, max_name);
    a.number(m.make_parents);
}
template <class A>
void fields(A& a, Subject<A, TarRead> m) {
    a.text(m.path, max_path);
}
template <class A>
void fields(A& a, Subject<A, TarWrite> m) {
    a.text(m.path, max_path);
    a.text(m.user, max_name);
}
template <class A>
void fields(A& a, Subject<A, TcpConnect> m) {
    a.text(m.host, max_name);
    a.number(m.port);
}
template <class A>
void fields(A& a, Subject<A, FileStat> m) {
    a.choice(m.kind, FileStat::Kind::other);
    a.number(m.size);
    a.number(m.mode);
    a.number(m.modified);
}
template <class A>
void fields(A& a, Subject<A, Opened> m) {
    a.number(m.pid);
    a.maybe(m.file, [](auto& archive, auto& stat) { fields<A>(archive, stat); });
}
template <class A>
void fields(A& a, Subject<A, SessionEnd> m) {
    a.choice(m.how, SessionEnd::How::failed);
    a.number(m.status);
    a.number(m.errc);
    a.text(m.message, max_message, Nul::allowed);
}
template <class A>
void fields(A& a, Subject<A, SessionInfo> m) {
    a.number(m.id.value);
    a.text(m.kind, 32);
    a.text(m.command, max_name);
    a.text(m.label, 128);
    a.number(m.pid);
    a.number(m.tty);
    a.number(m.attached);
    a.number(m.started);
    fields<A>(a, m.produced);
    fields<A>(a, m.dropped);
    a.maybe(m.ended, [](auto& archive, auto& end) {
        archive.choice(end.how, SessionEnd::How::failed);
        archive.number(end.status);
    });
}
template <class A>
void fields(A& a, Subject<A, AgentInfo> m) {
    a.text(m.version, 64);
    a.number(m.protocol);
    a.text(m.boot_id, 64);
    a.text(m.kernel, max_name);
    a.text(m.os, max_name);
    a.number(m.generation);
}
template <class A>
void fields(A& a, Subject<A, Hello> m) {
    a.number(m.protocol);
}
template <class A>
void fields(A& a, Subject<A, ResumeOffsets> m) {
    fields<A>(a, m.output);
    a.number(m.events);
}
template <class A>
void fields(A& a, Subject<A, ResumedOffsets> m) {
    a.number(m.input);
    a.number(m.control);
    fields<A>(a, m.output);
}
template <class A>
void fields(A& a, Subject<A, GuestNetwork> m) {
    a.text(m.mac, 32);
    a.text(m.address, 64);
    a.text(m.gateway, 64);
    a.list(m.nameservers, 8, [](auto& archive, auto& server) { archive.text(server, 64); });
    a.number(m.mtu);
}
template <class A>
void fields(A& a, Subject<A, Identity> m) {
    a.raw(m.entropy);
    a.number(m.clock_ns);
    a.text(m.hostname, 64);
    a.text(m.machine_id, 32);
    a.number(m.new_boot_id);
    a.number(m.renew_ssh_host_keys);
    a.number(m.end_sessions);
    a.maybe(m.network, [](auto& archive, auto& network) { fields<A>(archive, network); });
    a.list(m.env, 64, [](auto& archive, auto& word) { archive.text(word, max_word); });
}
template <class A>
void fields(A& a, Subject<A, GuestStats> m) {
    a.number(m.memory_total);
    a.number(m.memory_available);
    a.number(m.disk_total);
    a.number(m.disk_free);
    a.number(m.cpu_busy_ticks);
    a.number(m.cpu_total_ticks);
    a.real(m.load_1);
    a.number(m.uptime_s);
    a.number(m.processes);
}
template <class A>
void fields(A& a, Subject<A, InputEnd> m) {
    a.number(m.offset);
}
template <class A>
void fields(A& a, Subject<A, Signal> m) {
    a.number(m.number);
}
template <class A>
void fields(A&, Subject<A, Detach>) {}
template <class A>
void fields(A&, Subject<A, Release>) {}
template <class A>
void fields(A&, Subject<A, Attach>) {}
template <class A>
void fields(A&, Subject<A, Cancel>) {}
template <class A>
void fields(A& a, Subject<A, OutputEnd> m) {
    a.choice(m.stream, OutputStream::err);
    a.number(m.offset);
}
template <class A>
void fields(A& a, Subject<A, ListSessions> m) {
    a.number(m.after.value);
}
template <class A>
void fields(A&, Subject<A, GetStats>) {}
template <class A>
void fields(A&, Subject<A, Ping>) {}
template <class A>
void fields(A&, Subject<A, ShutDown>) {}
template <class A>
void fields(A&, Subject<A, Done>) {}
template <class A>
void fields(A& a, Subject<A, SessionPage> m) {
    a.list(m.sessions, max_page, [](auto& archive, auto& info) { fields<A>(archive, info); });
    a.number(m.more);
}
template <class A>
void fields(A& a, Subject<A, Failure> m) {
    a.number(m.errc);
    a.text(m.message, max_message, Nul::allowed);
}

// A variant: the alternative's index, then its fields.
template <class... Alternatives>
void encode_variant(Encoder& e, const std::variant<Alternatives...>& value) {
    e.number(static_cast<std::uint8_t>(value.index()));
    std::visit([&]<class T>(const T& alternative) { fields<Encoder>(e, alternative); }, value);
}
template <std::size_t I = 0, class... Alternatives>
void decode_alternative(Decoder& d, std::uint8_t index, std::variant<Alternatives...>& value) {
    if constexpr (I == sizeof...(Alternatives)) {
        d.refuse("an unknown kind of message");
    } else if (index == I) {
        fields<Decoder>(d, value.template emplace<I>());
    } else {
        decode_alternative<I + 1>(d, index, value);
    }
}
template <class... Alternatives>
void decode_variant(Decoder& d, std::variant<Alternatives...>& value) {
    std::uint8_t index = 0;
    d.number(index);
    if (d.good()) decode_alternative(d, index, value);
}

template <class A>
void fields(A& a, Subject<A, SessionSpec> m) {
    if constexpr (A::decoding)
        decode_variant(a, m.operation);
    else
        encode_variant(a, m.operation);
    a.choice(m.on_disconnect, Disconnect::detach);
    milliseconds(a, m.hold);
    a.text(m.label, 128);
}

template <class T>
inline constexpr bool is_variant = false;
template <class... T>
inline constexpr bool is_variant<std::variant<T...>> = true;

}  // namespace

template <class Message>
std::string encode(const Message& message) {
    Encoder encoder;
    if constexpr (is_variant<Message>)
        encode_variant(encoder, message);
    else
        fields<Encoder>(encoder, message);
    return encoder.take();
}

template <class Message>
Result<Message> decode(std::string_view bytes) {
    Decoder decoder{bytes};
    Message message{};
    if constexpr (is_variant<Message>)
        decode_variant(decoder, message);
    else
        fields<Decoder>(decoder, message);
    if (decoder.good() && !decoder.at_end()) decoder.refuse("bytes after its end");
    if (!decoder.good()) return fail(Errc::corrupt, std::string{"malformed message: "} + decoder.why());
    return message;
}

template <class Record>
void append_record(std::string& out, const Record& record) {
    const std::string body = encode(record);
    unsigned char size[4];
    endian::store_little_u32(size, static_cast<std::uint32_t>(body.size()));
    out.append(reinterpret_cast<const char*>(size), sizeof size);
    out.append(body);
}

template <class Record>
Result<std::optional<Record>> RecordReader<Record>::next() {
    constexpr std::size_t bound = std::is_same_v<Record, Control> ? max_spec_bytes : max_event;
    if (buffer_.size() < 4) return std::nullopt;
    const std::uint32_t size =
        endian::load_little_u32(reinterpret_cast<const unsigned char*>(buffer_.data()));
    if (size > bound) return fail(Errc::corrupt, "malformed message: a record longer than its bound");
    if (buffer_.size() - 4 < size) return std::nullopt;
    auto record = decode<Record>(std::string_view{buffer_}.substr(4, size));
    if (!record) return fail(record.error());
    buffer_.erase(0, 4 + size);
    return std::optional<Record>{std::move(*record)};
}

template class RecordReader<Control>;
template class RecordReader<SessionEvent>;

template void append_record(std::string&, const Control&);
template void append_record(std::string&, const SessionEvent&);

template std::string encode(const Hello&);
template std::string encode(const AgentInfo&);
template std::string encode(const ResumeOffsets&);
template std::string encode(const ResumedOffsets&);
template std::string encode(const Failure&);
template std::string encode(const Control&);
template std::string encode(const SessionEvent&);
template std::string encode(const Request&);
template std::string encode(const Reply&);
template Result<Hello> decode(std::string_view);
template Result<AgentInfo> decode(std::string_view);
template Result<ResumeOffsets> decode(std::string_view);
template Result<ResumedOffsets> decode(std::string_view);
template Result<Failure> decode(std::string_view);
template Result<Control> decode(std::string_view);
template Result<SessionEvent> decode(std::string_view);
template Result<Request> decode(std::string_view);
template Result<Reply> decode(std::string_view);

}  // namespace noid::proto
