#pragma once

#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "base/temporary_directory.hpp"
#include "privileged/local_warden.hpp"
#include "vm/local_engine.hpp"
#include "vm/testing/fake_vmm.hpp"

namespace noid::vm {

// Of a session of which nothing matters. Not written as {} in a co_await expression: g++ 12 would destroy it
// twice.
inline proto::SessionSpec command() {
    return {};
}

// An engine over a temporary data directory and the doubles of fake_vmm.hpp, on a loop of two threads.
class EngineWorld : public ::testing::Test {
  protected:
    EngineWorld();
    ~EngineWorld() override;

    // Runs a coroutine function to its end.
    void run(const std::function<Awaitable<void>()>& test);

    // Runs it in a process of its own, which kills itself (SIGKILL) when the engine reaches `step`. False:
    // the step was not reached.
    bool run_until_killed_at(const std::string& step, const std::function<Awaitable<void>()>& test);

    // A server starts over the data directory / ends and leaves its VMs running / is cut off.
    Awaitable<void> open();
    Awaitable<void> close();

    Awaitable<std::shared_ptr<Tenant>> tenant(std::string user = "ann");
    [[nodiscard]] static CreateRequest request(const char* name);

    // Waits until the engine has come to that step so many times since the test began. False: not in a
    // minute.
    Awaitable<bool> reached(std::string step, std::size_t times);

    // Waits until the user's VM is in that state. False: not in a minute.
    static Awaitable<bool> reaches(std::shared_ptr<Tenant> tenant, std::string name, State wanted);

    // How many processes of this test are alive.
    [[nodiscard]] std::size_t alive() const;
    // No process, file, slot, row or intent of any VM is left.
    void expect_nothing_left();
    [[nodiscard]] std::filesystem::path user_directory() const;

    TemporaryDirectory directory_;
    config::ServerConfig config_;
    std::shared_ptr<vmm::Warden> warden_ = std::move(*privileged::LocalWarden::open({}));
    std::shared_ptr<Script> script_ = std::make_shared<Script>();
    asio::io_context loop_;
    asio::any_io_executor step_strand_;
    asio::steady_timer step_taken_;  // on step_strand_
    std::unique_ptr<Engine> engine_;
    std::string user_id_;
    std::string token_;
};

}  // namespace noid::vm
