#include "ingress/guest_stream.hpp"

#include <utility>
#include <variant>

namespace noid::ingress {

using channel::Session;

Awaitable<Result<std::unique_ptr<GuestStream>>> GuestStream::connect(std::shared_ptr<vm::Vm> vm,
                                                                     std::uint16_t port) {
    proto::SessionSpec spec;
    spec.operation = proto::TcpConnect{"127.0.0.1", port};
    spec.label = "port " + std::to_string(port);
    auto session = co_await vm->open(std::move(spec));
    if (!session) co_return fail(std::move(session).error());
    auto stream = std::make_unique<GuestStream>(std::move(vm), std::move(*session));
    while (true) {
        const auto event = co_await stream->next();
        if (!event) co_return fail(event.error());
        if (std::holds_alternative<Session::Opened>(*event)) co_return std::move(stream);
        if (stream->ended_)
            co_return fail(Errc::unavailable,
                           "nothing answers on port " + std::to_string(port) + " of the VM");
    }
}

GuestStream::GuestStream(std::shared_ptr<vm::Vm> vm, std::shared_ptr<Session> session)
    : vm_{std::move(vm)}, session_{std::move(session)} {}

GuestStream::~GuestStream() {
    if (!ended_) abort();
}

Awaitable<Result<Session::Event>> GuestStream::next() {
    auto next = [session = session_] { return session->next(); };
    auto event = co_await on_strand(vm_->strand(), std::move(next));
    if (!event || std::holds_alternative<Session::Ended>(*event)) ended_ = true;
    co_return event;
}

Awaitable<Result<std::string>> GuestStream::read() {
    if (acknowledged_ < received_) {
        acknowledged_ = received_;
        asio::post(vm_->strand(), [session = session_, offset = received_] {
            session->acknowledge(proto::OutputStream::out, offset);
        });
    }
    while (!output_ended_) {
        auto event = co_await next();
        if (!event) co_return fail(std::move(event).error());
        if (auto* output = std::get_if<Session::Output>(&*event)) {
            if (output->stream != proto::OutputStream::out) continue;
            received_ = output->offset + output->bytes.size();
            co_return std::move(output->bytes);
        }
        if (const auto* end = std::get_if<Session::OutputEnd>(&*event)) {
            if (end->stream == proto::OutputStream::out) output_ended_ = true;
        } else if (std::holds_alternative<Session::Dropped>(*event)) {
            co_return fail(Errc::unavailable, "the connection in the guest lost bytes");
        } else if (const auto* ended = std::get_if<Session::Ended>(&*event)) {
            output_ended_ = true;
            if (ended->how != proto::SessionEnd::How::exited)
                co_return fail(Errc::unavailable, "the connection in the guest broke");
        }
    }
    co_return std::string{};
}

Awaitable<Result<void>> GuestStream::write(std::string bytes) {
    auto write = [session = session_, &bytes] { return session->write(std::move(bytes)); };
    co_return co_await on_strand(vm_->strand(), std::move(write));
}

void GuestStream::end_writing() {
    asio::post(vm_->strand(), [session = session_] { session->close_input(); });
}

Awaitable<Result<void>> GuestStream::wait_for_end() {
    while (!ended_) {
        if (const auto event = co_await next(); !event) co_return fail(event.error());
    }
    co_return Result<void>{};
}

Awaitable<void> GuestStream::finish(std::chrono::milliseconds limit) {
    (void)co_await within(limit, wait_for_end());
}

void GuestStream::abort() {
    asio::post(vm_->strand(), [session = session_] { session->cancel(); });
}

}  // namespace noid::ingress
