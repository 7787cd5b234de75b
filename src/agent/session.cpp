#include "agent/session.hpp"

#include <algorithm>
#include <ctime>
#include <utility>

namespace noid::agent {
namespace {

constexpr std::chrono::milliseconds longest_hold = std::chrono::hours{24};
constexpr std::size_t shown_command = 256;

}  // namespace

Session::Session(Context& context, proto::GuestPeer& peer, proto::SessionId id)
    : GuestSession{id},
      context_{context},
      peer_{peer},
      started_{static_cast<std::int64_t>(::time(nullptr))},
      hold_for_{proto::SessionSpec{}.hold},
      hold_{context.loop, [this] { hold_passed(); }} {}

Session::~Session() {
    peer_.forget(*this);
}

void Session::on_spec(proto::SessionSpec spec) {
    on_disconnect_ = spec.on_disconnect;
    hold_for_ = std::min(spec.hold, longest_hold);
    label_ = std::move(spec.label);
    operation_ = make_operation(context_, *this, std::move(spec.operation));
    operation_->start();
}

void Session::on_input() {
    if (operation_) operation_->on_input();
}

void Session::on_output_room(proto::OutputStream stream) {
    if (operation_) operation_->on_output_room(stream);
}

void Session::on_signal(int number) {
    if (operation_) operation_->on_signal(number);
}

void Session::on_resize(proto::TerminalSize size) {
    if (operation_) operation_->on_resize(size);
}

void Session::on_consumer() {
    if (consumer() == Consumer::holding)
        hold_.set(hold_for_);
    else
        hold_.cancel();
}

void Session::hold_passed() {
    if (on_disconnect_ == proto::Disconnect::cancel)
        over_ = true;
    else
        become(Consumer::detached);
}

proto::SessionInfo Session::info() const {
    proto::SessionInfo info;
    info.id = id();
    info.label = label_;
    info.attached = consumer() == Consumer::attached;
    info.started = started_;
    info.produced = produced();
    info.dropped = dropped();
    info.ended = end_result();
    if (!operation_) return info;
    info.kind = operation_->kind();
    info.command = operation_->describe().substr(0, shown_command);
    info.pid = operation_->pid();
    info.tty = operation_->has_terminal();
    return info;
}

}  // namespace noid::agent
