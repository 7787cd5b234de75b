#include "cli/exec_request.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <boost/json/serialize.hpp>

#include "cli/byte_stream.hpp"
#include "cli/exec_at_terminal.hpp"
#include "cli/local_input.hpp"
#include "cli/terminal.hpp"
#include "wire/names.hpp"

namespace noid::cli {
namespace {

using namespace std::chrono_literals;

// What the server decides about a command's end comes well within this after it.
constexpr auto answer_margin = 30'000ms;
// Fits into a request's body of 1 MiB when it has to be base64.
constexpr std::size_t max_json_input = 700'000;

// The server refused the command itself, not the way it was sent.
bool is_final(unsigned status) {
    return status == 400 || status == 401 || status == 403 || status == 404 || status == 409 || status == 429;
}

Awaitable<Result<boost::json::value>> post(const VmOnServer& vm, const wire::ExecRequest& request) {
    // Without a time limit of ours the server has one, of a length that we do not know.
    const auto limit =
        request.timeout_ms ? std::chrono::milliseconds{*request.timeout_ms} + answer_margin : 0ms;
    HttpRequest http{HttpMethod::post, vm.target + "/exec", boost::json::serialize(wire::to_json(request))};
    http.read_timeout = limit;
    co_return co_await vm.client.call_json(std::move(http), "exec");
}

int exit_code_of(const wire::ExecResponse& response) {
    if (response.timed_out) return 124;
    return response.exit_code.value_or(0);
}

Awaitable<Result<int>> run_over_rest(const VmOnServer& vm, const wire::ExecRequest& request) {
    auto answer = co_await post(vm, request);
    if (!answer) co_return fail(answer.error());
    auto response = read_answer<wire::ExecResponse>(*answer, "exec");
    if (!response) co_return fail(response.error());
    print(response->out);
    if (response->timed_out) print_notice("exec timed out");
    if (response->truncated) print_notice("warning: output was truncated (exceeded 1MB limit)");
    co_return exit_code_of(*response);
}

// All of stdin, for a request that holds it.
Awaitable<Result<std::string>> read_whole_input(const Context& context) {
    auto input = LocalInput::open(context.executor, STDIN_FILENO);
    if (!input) co_return fail(input.error());
    std::string whole;
    for (;;) {
        auto bytes = co_await input->read(transfer_chunk);
        if (!bytes) co_return fail(bytes.error());
        if (bytes->empty()) co_return whole;
        whole += *bytes;
        if (whole.size() > max_json_input) {
            co_return fail(Errc::too_large,
                           fmt::format("with --json stdin may have {} bytes at most; without, "
                                       "any number",
                                       max_json_input));
        }
    }
}

// The answer as one object. Stdin only when asked for: it is read to its end before anything runs.
Awaitable<Result<int>> run_for_json(const Context& context, const VmOnServer& vm, wire::ExecRequest request,
                                    bool with_input) {
    request.separate = true;
    if (with_input) {
        auto input = co_await read_whole_input(context);
        if (!input) co_return fail(input.error());
        request.input = std::move(*input);
    }
    auto answer = co_await post(vm, request);
    if (!answer) co_return fail(answer.error());
    auto response = read_answer<wire::ExecResponse>(*answer, "exec");
    if (!response) co_return fail(response.error());
    print_line(boost::json::serialize(*answer));
    co_return exit_code_of(*response);
}

}  // namespace

Result<wire::ExecRequest> exec_request(const CommandOptions& options) {
    wire::ExecRequest request;
    request.command = options.command;
    request.tty = options.tty;
    request.env = options.env;
    request.cwd = options.cwd;
    request.user = options.user;
    request.label = options.label;
    if (options.timeout) request.timeout_ms = static_cast<std::uint64_t>(options.timeout->count());
    if (auto valid = wire::check_env(request.env); !valid) return fail(valid.error());
    return request;
}

bool passes_input(const CommandOptions& options) {
    if (options.no_input) return false;
    return options.interactive || options.tty || !is_terminal(STDIN_FILENO);
}

Awaitable<Result<int>> run_command(const Context& context, VmOnServer vm, CommandOptions options) {
    auto request = exec_request(options);
    if (!request) co_return fail(request.error());
    if (context.json) {
        if (options.tty) co_return fail(Errc::invalid, "--tty and --json exclude each other");
        co_return co_await run_for_json(context, vm, std::move(*request), options.interactive);
    }
    const LocalEnds ends{.input = passes_input(options), .tty = options.tty};
    request->stream_stdin = ends.input;
    RemoteSession::Options session{.account = vm.client.account(), .vm = vm.name, .trace = context.trace()};
    session.hold = options.hold;
    auto outcome = co_await run_at_terminal(context, std::move(session), *request, ends);
    if (!outcome) co_return fail(outcome.error());
    if (const auto* refused = std::get_if<RemoteSession::Refused>(&outcome->ending)) {
        if (options.tty || is_final(refused->status)) co_return fail(refused->error);
        request->stream_stdin = false;
        co_return co_await run_over_rest(vm, *request);
    }
    co_return report_outcome(*outcome, vm.name);
}

}  // namespace noid::cli
