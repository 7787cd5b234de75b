#include "net/sleeping_guests.hpp"

#include <algorithm>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <optional>
#include <set>

#include "base/log.hpp"
#include "net/packet_log.hpp"

namespace noid::net {

namespace {

constexpr std::chrono::seconds between_knocks{10};
constexpr std::chrono::seconds worth_telling{30};  // as long as the packet itself is held
constexpr std::size_t most_watches_of_a_user = 16;

}  // namespace

// What one watching server has yet to hear: bounded by the number of its guests.
class SleepingGuests::Knocks final : public LineFeed {
  public:
    explicit Knocks(asio::any_io_executor executor)
        : changed_{std::move(executor), asio::steady_timer::time_point::max()} {}

    void add(const std::string& vm) {
        waiting_.insert(vm);
        changed_.cancel();
    }
    void close() override {
        is_closed_ = true;
        changed_.cancel();
    }
    Awaitable<std::optional<std::string>> next() override {
        while (waiting_.empty() && !is_closed_) {
            boost::system::error_code woken;
            co_await changed_.async_wait(asio::redirect_error(asio::use_awaitable, woken));
        }
        if (is_closed_) co_return std::nullopt;
        const std::string vm = std::move(waiting_.extract(waiting_.begin()).value());
        co_return knock_line(vm);
    }

  private:
    asio::steady_timer changed_;
    std::set<std::string> waiting_;
    bool is_closed_ = false;
};

struct SleepingGuests::Sleeper {
    std::string vm;
    Owner owner;
    asio::posix::stream_descriptor knocks;
    std::optional<Clock::time_point> heard;  // when somebody sent to it
    std::optional<Clock::time_point> told;   // when the server was told so
};

SleepingGuests::~SleepingGuests() {
    boost::system::error_code ignored;
    for (const auto& [index, sleeper] : sleepers_) sleeper->knocks.close(ignored);
}

void SleepingGuests::handle(GuestFellAsleep event) {
    if (auto listening = listen_to_packet_log(event.knocks, knock_group); !listening) {
        log::error("nobody can wake a VM by its address",
                   {{"vm", event.vm}, {"reason", listening.error().full()}});
        return;
    }
    auto sleeper =
        std::make_shared<Sleeper>(Sleeper{std::move(event.vm),
                                          Owner{event.user, std::move(event.server)},
                                          asio::posix::stream_descriptor{executor_, event.knocks.release()},
                                          {},
                                          {}});
    sleepers_[event.index] = sleeper;
    asio::co_spawn(executor_, listen(std::move(sleeper)), [](std::exception_ptr thrown) {
        if (thrown) log::exception("watch over a sleeping guest", thrown);
    });
}

void SleepingGuests::forget(std::uint32_t index) {
    const auto sleeper = sleepers_.extract(index);
    if (!sleeper) return;
    boost::system::error_code ignored;
    sleeper.mapped()->knocks.close(ignored);
}

Awaitable<void> SleepingGuests::listen(std::shared_ptr<Sleeper> sleeper) {
    while (true) {
        boost::system::error_code error;
        co_await sleeper->knocks.async_wait(asio::posix::stream_descriptor::wait_read,
                                            asio::redirect_error(asio::use_awaitable, error));
        if (error || !sleeper->knocks.is_open()) co_return;
        drain_packet_log(sleeper->knocks.native_handle());
        knocked(*sleeper);
    }
}

void SleepingGuests::knocked(Sleeper& sleeper) {
    const auto now = Clock::now();
    sleeper.heard = now;
    if (sleeper.told && now - *sleeper.told < between_knocks) return;
    const auto watcher = watchers_.find(sleeper.owner);
    const auto knocks = watcher == watchers_.end() ? nullptr : watcher->second.lock();
    if (!knocks) return;
    log::info("somebody sends to a sleeping VM", {{"vm", sleeper.vm}});
    sleeper.told = now;
    knocks->add(sleeper.vm);
}

Result<std::shared_ptr<LineFeed>> SleepingGuests::watch(uid_t user, const std::string& server) {
    std::erase_if(watchers_, [](const auto& each) { return each.second.expired(); });
    const Owner owner{user, server};
    const auto of_user = std::count_if(watchers_.begin(), watchers_.end(),
                                       [&](const auto& each) { return each.first.first == user; });
    if (static_cast<std::size_t>(of_user) >= most_watches_of_a_user && !watchers_.contains(owner))
        return fail(Errc::limit_exceeded, "this user watches for too many servers");
    auto& place = watchers_[owner];
    if (const auto older = place.lock()) older->close();
    auto knocks = std::make_shared<Knocks>(executor_);
    place = knocks;
    for (const auto& [index, sleeper] : sleepers_) {
        if (sleeper->owner != owner) continue;
        // What an earlier watch was told may not have arrived.
        sleeper->told.reset();
        if (sleeper->heard && Clock::now() - *sleeper->heard < worth_telling) knocked(*sleeper);
    }
    return knocks;
}

}  // namespace noid::net
