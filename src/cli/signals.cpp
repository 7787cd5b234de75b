#include "cli/signals.hpp"

#include <csignal>
#include <cstdlib>
#include <utility>

#include "cli/terminal.hpp"

namespace noid::cli {

Signals::Signals(const asio::any_io_executor& executor) : set_{executor, SIGINT, SIGTERM, SIGHUP} {
    wait();
}

void Signals::stop() {
    boost::system::error_code ignored;
    set_.cancel(ignored);
}

void Signals::wait() {
    set_.async_wait([this](const boost::system::error_code& stopped, int signal) {
        if (stopped) return;
        arrived(signal);
        wait();
    });
}

void Signals::arrived(int signal) {
    if (const auto handler = handler_) {  // a copy: it may end its own TakeOver
        handler(signal);
    } else if (cancelled_by_ == 0 && cancel_) {
        cancelled_by_ = signal;
        cancel_();
    } else {
        end_by_signal(signal);
    }
}

Signals::TakeOver::TakeOver(Signals& signals, std::function<void(int)> handler)
    : signals_{signals}, before_{std::exchange(signals.handler_, std::move(handler))} {}

Signals::TakeOver::~TakeOver() {
    signals_.handler_ = std::move(before_);
}

void end_by_signal(int signal) {
    RawMode::restore_before_exit();
    std::_Exit(128 + signal);
}

}  // namespace noid::cli
